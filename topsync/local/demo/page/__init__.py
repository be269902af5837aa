"""The page of the demo: what is measured, shown in a browser while the demo runs."""

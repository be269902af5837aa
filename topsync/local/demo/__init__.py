"""The demo: everything at work on this machine, for somebody who has never seen it."""

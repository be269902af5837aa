"""`make coverage`: what of the product the suite does not run, and why that is so."""

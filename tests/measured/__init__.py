"""`make coverage`: which parts of the product the suite does not run, and why."""

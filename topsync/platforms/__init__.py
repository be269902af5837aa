"""The platforms that topsync copies orders from, each in a package of its own."""

"""The shared ground of topsync: what the services stand on, and the command line on top of them."""

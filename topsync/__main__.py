"""`python -m topsync` is `topsync`."""

from topsync.cli import main

if __name__ == "__main__":
    main()

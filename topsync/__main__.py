"""`python -m topsync` is `topsync`."""

from topsync.operate.cli import main

if __name__ == "__main__":
    main()

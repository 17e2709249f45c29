"""`python -m mvat_hf.cli` is the `mvat` command too, as launchers of several processes want it."""

import sys

from . import main

if __name__ == "__main__":
    sys.exit(main())

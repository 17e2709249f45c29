"""`python -m mvat_hf` is the `mvat` command."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())

"""Score models on a data set; the `mvat evaluate` command as a script, with the same options.

python scripts/evaluate.py mvat/manner-s-8.1gf --data valentini --root VALENTINI_FOLDER --output results
"""

import sys

from mvat_hf.cli import main

if __name__ == "__main__":
    sys.exit(main(["evaluate", *sys.argv[1:]]))

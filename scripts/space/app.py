"""The demo page as a Space on the Hub: this folder, with the package beside `app.py`.

hf repos create OWNER/NAME --repo-type space --space-sdk gradio
hf upload OWNER/NAME scripts/space . --repo-type space
hf upload OWNER/NAME src/mvat_hf mvat_hf --repo-type space --exclude "*.pyc"
"""

import sys

from mvat_hf.cli import main

if __name__ == "__main__":
    sys.exit(main(["demo", "--host", "0.0.0.0", "--max-seconds", "120"]))

"""``python -m rfkit``."""

import sys

from rfkit.cli import main

if __name__ == "__main__":
    sys.exit(main())

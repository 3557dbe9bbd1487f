"""``python -m vanillayolo`` is the command ``vanillayolo``."""

import sys

from vanillayolo.cli import main

if __name__ == "__main__":
    sys.exit(main())

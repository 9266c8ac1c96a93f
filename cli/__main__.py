"""``python -m cfcam.cli``."""

import sys

from . import main

sys.exit(main())

"""``python -m mlmm.console`` is ``mlmm``."""

import sys

from mlmm.console.cli import main

sys.exit(main())

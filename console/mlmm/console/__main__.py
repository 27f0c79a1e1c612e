"""``python -m mlmm.console`` is ``mlmm``."""

import sys

from mlmm.console.entry import main

sys.exit(main())

"""Real results and files of harnesses, where SCOREHOUSE_REAL_DATA names their folder, with `runs` and `native`."""

import os
from pathlib import Path

import pytest

REAL_DATA = Path(os.environ.get("SCOREHOUSE_REAL_DATA", ""))
needs_real_data = pytest.mark.skipif("SCOREHOUSE_REAL_DATA" not in os.environ, reason="SCOREHOUSE_REAL_DATA is not set")

"""Read by Python at the start of processes whose clock is wrong: libfaketime 0.9.10 makes `time.sleep` fail where the
monotonic clock is left right, as it must be. It calls clock_nanosleep, select does not."""

import select
import time
from typing import SupportsIndex


def _sleep(seconds: "float | SupportsIndex", /) -> None:
    select.select([], [], [], float(seconds))


time.sleep = _sleep

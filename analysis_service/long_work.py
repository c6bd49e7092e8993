"""Computing that takes seconds: in threads of its own, as none can be ended, and all share those of `to_thread`."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

from analysis_service.reader import Reader
from shared.problems import TimeLimit

_T = TypeVar("_T")


async def compute_long(reader: Reader, work: Callable[[], _T]) -> _T:
    """What `work` returns, off the event loop, when its turn comes; what nobody waits for any more is not begun.

    TimeLimit if that takes twice as long as an answer may: hold no connection meanwhile.
    """
    limit_s = 2 * reader.plan_timeout_s
    try:
        async with asyncio.timeout(limit_s):
            return await asyncio.get_running_loop().run_in_executor(reader.long_work, work)
    except TimeoutError:
        raise TimeLimit(
            f"The answer was not computed within {limit_s:g} s, as others are computed, too; try again, or ask for "
            "fewer draws, models or runs."
        ) from None

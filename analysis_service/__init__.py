"""The analysis service."""

import os

# Before numpy is loaded: the threads of its linear algebra wait for one another in busy loops, which takes ten times as
# long where other processes or requests need the cores. Requests are what is done in parallel here.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

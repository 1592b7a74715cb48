"""Settings of the whole suite: hypothesis draws the same examples in every run, and no example has a deadline.

The width of tables does not depend on the terminal that the suite was started from (pytest-xdist tells its workers).
Ctrl-C works in a suite that runs in the background, too: a shell starts that with the signal ignored, and so would
every process that a test starts.
Where pytest-xdist has several workers, they divide the cores among their threads of BLAS, before anybody loads NumPy:
on 16 cores it would be 16 times 16 of them, which wait for each other by trying again and again.
"""

import os
import signal

if workers := os.environ.get("PYTEST_XDIST_WORKER_COUNT"):
    os.environ.setdefault("OPENBLAS_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // int(workers))))

from hypothesis import HealthCheck, settings

settings.register_profile(
    "minires", derandomize=True, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("minires")

os.environ.pop("COLUMNS", None)

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

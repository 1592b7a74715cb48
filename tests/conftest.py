"""Settings of the whole suite: hypothesis draws the same examples in every run, and no example has a deadline.

The width of tables does not depend on the terminal that the suite was started from (pytest-xdist tells its workers).
"""

import os

from hypothesis import HealthCheck, settings

settings.register_profile(
    "minires", derandomize=True, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("minires")

os.environ.pop("COLUMNS", None)

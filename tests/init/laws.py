"""z-scores of samples against a law, with one false-alarm rate for a whole file of tests."""

from __future__ import annotations

from statistics import NormalDist

FALSE_ALARM = 1e-6
"""The chance that any of the z-scores of one test file fails although the law holds (for an unlucky seed)."""


def assert_z(z: float, checks: int) -> None:
    """|z| below the two-sided normal quantile at FALSE_ALARM / checks."""
    threshold = NormalDist().inv_cdf(1 - FALSE_ALARM / (2 * checks))
    assert abs(z) <= threshold, f"z = {z:.2f}, beyond {threshold:.2f}: the sample does not follow the law"

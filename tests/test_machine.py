"""`minires.machine` speaks to OpenBLAS before NumPy is loaded, and never over the user's head."""

import os
import subprocess
import sys

import pytest

from minires import machine

SCRIPT = """
import sys
from minires import machine
assert "numpy" not in sys.modules, "NumPy was loaded before its kernels could be chosen"
machine.prepare()
import os
print(os.environ.get("OPENBLAS_CORETYPE", "unset"))
"""


def coretype(**environment: str) -> str:
    env = {k: v for k, v in os.environ.items() if k != "OPENBLAS_CORETYPE"} | environment
    run = subprocess.run([sys.executable, "-c", SCRIPT], env=env, capture_output=True, text=True, check=True)
    return run.stdout.strip()


def test_what_the_user_set_wins():
    assert coretype(OPENBLAS_CORETYPE="Haswell") == "Haswell"


def test_kernels_are_named_only_where_they_apply():
    expected = "SkylakeX" if sys.platform == "linux" and machine._is_amd_with_avx512() else "unset"
    assert coretype() == expected


@pytest.mark.parametrize(
    ("vendor", "flags", "applies"),
    [
        ("AuthenticAMD", "avx2 avx512f avx512bw avx512dq avx512vl avx512cd", True),
        ("AuthenticAMD", "avx2 avx512f", False),
        ("GenuineIntel", "avx2 avx512f avx512bw avx512dq avx512vl avx512cd", False),
    ],
)
def test_which_processors_they_are_named_for(monkeypatch, vendor, flags, applies):
    cpu = f"vendor_id\t: {vendor}\nflags\t\t: fpu {flags}\nbugs\t\t: none\n"
    monkeypatch.setattr(machine.Path, "read_text", lambda self: cpu)
    assert machine._is_amd_with_avx512() is applies

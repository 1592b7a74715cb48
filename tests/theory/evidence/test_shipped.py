"""The table of shipped initializers: a library that is there is judged, one that is not is named."""

import numpy as np
import pytest

from minires import init
from tests.theory.evidence import shipped


def test_torch_obeys_its_documentation_but_for_the_truncated_normal():
    pytest.importorskip("torch")
    names = ("kaiming_normal_", "nn.Linear", "dirac_", "trunc_normal_")  # the command itself checks them all
    entries = [entry for entry in shipped.torch_entries() if entry.name.startswith(names)]
    verdicts = {entry.name: shipped.judge(entry) for entry in entries}
    cut = verdicts.pop("trunc_normal_(std=s, a=-2s, b=2s)")
    absolute = verdicts.pop("trunc_normal_(std=0.02), cut at ±2 by default")
    assert cut == "variance 0.774 of the law: truncation not corrected"
    assert absolute == "normal where normal truncated at 2 was meant"  # a, b are absolute: nothing is cut
    assert all(verdict.startswith("obeys ") for verdict in verdicts.values()), verdicts


def test_a_sampler_that_raises_is_a_finding():
    def broken(shape, rng):
        raise RuntimeError("no such backend")

    entry = shipped.Entry("broken", "N(0, 1)", init.Normal(1.0), broken)
    assert shipped.judge(entry) == "fails: RuntimeError: no such backend"


def test_layouts_with_channels_last_are_transposed():
    seen = []

    def draw(shape, seed):
        seen.append(shape)
        return np.arange(np.prod(shape)).reshape(shape)

    weight = shipped.transposed(draw)((5, 4, 3, 2), np.random.default_rng(0))
    assert seen == [(3, 2, 4, 5)]
    assert weight.shape == (5, 4, 3, 2)
    assert weight[1, 2, 0, 1] == np.arange(120).reshape(3, 2, 4, 5)[0, 1, 2, 1]


def test_a_missing_library_is_named(monkeypatch):
    monkeypatch.setattr(shipped, "LIBRARIES", {"not_a_library_of_ours": ("x", shipped.torch_entries)})
    ((library, name, documented, verdict),) = shipped.rows()
    assert library == "not_a_library_of_ours"
    assert (name, documented) == ("", "")
    assert "cannot be imported" in verdict

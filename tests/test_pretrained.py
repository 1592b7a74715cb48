"""Weights from somewhere else: names translated, everything else strict, a report of what happened."""

import numpy as np
import pytest

from minires import init, nn


def model():
    return nn.resnet(8, width=4, shortcut="B", rng=1)


def others(source):
    """The same weights under the names in use elsewhere."""
    synonyms = {"linear": "fc", "shortcut": "downsample"}
    renamed = {}
    for name, array in source.state_dict().items():
        renamed["module." + ".".join(synonyms.get(part, part) for part in name.split("."))] = array + 1
    renamed["module.bn1.num_batches_tracked"] = np.array(7)
    return renamed


def assert_loaded(target, source, offset=0):
    for name, array in target.state_dict().items():
        assert np.array_equal(array, source[name] + offset), name


def test_own_names():
    target, source = model(), nn.resnet(8, width=4, shortcut="B", rng=2).state_dict()
    report = init.from_pretrained(target, source)
    assert_loaded(target, source)
    assert report.ok and sorted(report.matched) == sorted(source)
    assert f"{len(source)} arrays matched" in str(report)


def test_names_in_use_elsewhere_are_translated():
    target, source = model(), model()
    report = init.from_pretrained(target, others(source))
    assert report.ok and len(report.matched) == len(source.state_dict())
    assert_loaded(target, source.state_dict(), 1)


def broken_state():
    """A missing, an unexpected and a mis-shaped array."""
    state = {name: array + 1 for name, array in model().state_dict().items()}
    del state["bn1.bias"]
    state["extra.weight"] = np.zeros(3, "float32")
    state["linear.weight"] = np.zeros((5, 16), "float32")
    return state


def test_strict_refuses_and_leaves_the_model_as_it_was():
    target = model()
    with pytest.raises(ValueError, match="state_dict") as caught:
        init.from_pretrained(target, broken_state())
    for expected in ("bn1.bias", "extra.weight", "linear.weight", "(5, 16)", "(10, 16)"):
        assert expected in str(caught.value)
    assert_loaded(target, model().state_dict())


def test_not_strict_loads_what_fits_and_reports_the_rest():
    target = model()
    report = init.from_pretrained(target, broken_state(), strict=False)
    assert not report.ok
    assert (report.missing, report.unexpected) == (["bn1.bias"], ["extra.weight"])
    assert len(report.misshaped) == 1 and "linear.weight" in report.misshaped[0]
    untouched = ("bn1.bias", "linear.weight")
    for name, array in target.state_dict().items():
        assert np.array_equal(array, model().state_dict()[name] + (name not in untouched)), name


def test_transfer_of_all_but_the_head():
    source = nn.resnet(8, width=4, shortcut="B", num_classes=7, rng=2)
    target = model()
    report = init.from_pretrained(target, source.state_dict(), strict=False)
    assert not report.missing and len(report.misshaped) == 2
    assert np.array_equal(target.conv1.weight.value, source.conv1.weight.value)


def test_the_models_dtype_stays():
    target = model().astype("float64")
    init.from_pretrained(target, model().state_dict())
    assert {array.dtype.name for array in target.state_dict().values()} == {"float64"}


def test_two_names_for_one_array_are_refused():
    """Which of the two would be meant?"""
    source = model().state_dict()
    with pytest.raises(ValueError, match=r"fc\.weight"):
        init.from_pretrained(model(), {**source, "fc.weight": source["linear.weight"] + 1})


@pytest.mark.parametrize("bad", [np.zeros(10, "int64"), np.array(["a"] * 10), np.zeros(10, object)])
def test_what_is_no_float_array_is_refused(bad):
    source = model().state_dict()
    target = model()
    with pytest.raises((ValueError, TypeError), match=r"linear\.bias"):
        init.from_pretrained(target, {**source, "linear.bias": bad})
    assert_loaded(target, source)

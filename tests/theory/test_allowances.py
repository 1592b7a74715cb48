"""Doubts: how causes add and travel, what they allow, and that a row without a grade says why."""

import math

import numpy as np
import pytest

from minires import init, nn
from minires.data import load_digits
from minires.theory import predict
from minires.theory.rules.allowances import HUGE, LARGEST, LEVELS, Doubt


def test_causes_add_as_squares():
    doubt = Doubt.of(few_channels=0.3) + Doubt.of(few_channels=0.4, few_values=1.2)
    assert doubt == {"few channels": pytest.approx(0.5), "few values": 1.2}
    assert doubt.size == pytest.approx(1.3)
    assert doubt.main == "few values"


def test_a_cause_that_is_not_there_is_not_named():
    assert Doubt.of(few_channels=0.0, not_gaussian=False) == {}
    assert Doubt().main == ""


def test_two_paths_leave_the_larger_of_each_cause():
    assert Doubt.of(a=1, b=2).larger(Doubt.of(a=3, c=1)) == {"a": 3, "b": 2, "c": 1}


def test_a_doubt_that_overflows_stays_finite():
    assert Doubt.of(a=1e200).times(1e200) == {"a": HUGE}
    assert math.isnan(Doubt.of(a=1e200).allowance)


def test_allowances_grow_with_the_doubt_up_to_a_factor_of_two():
    allowed = [Doubt.of(a=size).allowance for size in np.linspace(1e-6, LARGEST, 50)]
    assert allowed == sorted(allowed)
    assert allowed[0] == pytest.approx(LEVELS[1][0], rel=1e-3)
    assert allowed[-1] == 1
    assert math.isnan(Doubt.of(a=1.01 * LARGEST).allowance)


def test_a_row_without_a_grade_says_what_it_is_doubted_for():
    """What differs between two samples, averaged over all pixels, is the little that two large numbers leave."""
    layers = [
        layer for _ in range(4) for layer in (nn.Conv2d(3, 3, 3, 1, 1, bias=False, rng=0), nn.BatchNorm2d(3), nn.ReLU())
    ]
    report = predict(nn.Sequential(*layers, nn.GlobalAvgPool2d()), (2, 3, 6, 6))
    law = report["12"].batch_variance
    assert (law.grade, law.allowance, law.reason) == ("", 0.0, "covariances of a pool")
    assert "covariances" in str(report)


def test_of_a_zero_nothing_is_in_doubt():
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3, bias=False, rng=0), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 1, rng=0)
    )
    report = predict(model, (2, 3, 5, 5), weight=init.Zeros())
    assert all(row.forward.grade for row in report)
    assert {row.forward.mean for row in report} == {0.0}


def test_a_batchnorm_whose_samples_are_all_alike_has_a_law():
    """A map of one pixel, padded and read by a 1x1 kernel: sigmoids leave next to nothing of what samples differ in."""

    def layers(inputs, outputs, kernel, stride=1, padding=0):
        conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False, rng=0)
        return conv, nn.BatchNorm2d(outputs), nn.Sigmoid()

    model = nn.Sequential(
        *layers(3, 24, 3, 2),
        nn.Bottleneck(24, 6, activation=nn.Sigmoid),
        *layers(24, 8, 3),
        *layers(8, 24, 1, 2, 1),
        nn.BasicBlock(24, 24, activation=nn.Sigmoid),
    )
    x = np.random.default_rng(0).standard_normal((64, 3, 8, 8)).astype(np.float32)
    assert all(math.isfinite(row.forward.mean) for row in predict(model, x))


def test_weight_gradients_of_images_under_a_pool_need_the_pixels_that_agree():
    """On a map too large to follow them the law was 70 times too small. White noise has none, and keeps its law."""
    model = nn.resnet(blocks=(2,), width=8)
    image = np.add.outer(np.linspace(-1, 1, 24), np.linspace(-1, 1, 24))
    x = np.random.default_rng(0).standard_normal((8, 3, 1, 1)) * image
    of_images, of_noise = predict(model, x), predict(model, (8, 3, 24, 24))
    assert not of_images["layer1.0.conv1"].weight_gradient.grade
    assert of_images["layer1.1.conv2"].weight_gradient.mean > 0  # right below the pool they are followed
    assert of_noise["layer1.0.conv1"].weight_gradient.grade


def test_a_weight_gradient_whose_terms_cancel_has_no_law():
    """A law of 0 would claim to be certain."""
    digits = load_digits().x_train[:8].astype(np.float32)
    model = nn.resnet(blocks=(1,), width=8, in_channels=1)
    report = predict(model, (digits - digits.mean()) / digits.std())
    assert math.isnan(report["layer1.0.conv2"].weight_gradient.mean)
    assert all(row.weight_gradient.mean != 0 for row in report)


def test_a_variance_lost_in_rounding_is_no_certain_zero():
    noise = np.random.default_rng(0).standard_normal((8, 3, 4, 4))
    model = nn.Sequential(nn.Conv2d(3, 4, 1, rng=0), nn.BatchNorm2d(4)).astype(np.float64)
    law = predict(model, 1e4 + 1e-3 * noise)["1"].forward
    assert law.grade == ""


def test_contrasts_are_those_of_samples_on_maps_of_any_size():
    """White noise has none, whether or not the way back keeps all positions."""
    layers = [nn.Conv2d(1, 8, 3, 1, 1, rng=0), nn.BatchNorm2d(8), nn.Tanh(), nn.Conv2d(8, 8, 3, 1, 1, rng=0), nn.Tanh()]
    found = []
    for side in (31, 33):
        x = np.random.default_rng(0).standard_normal((8, 1, side, side))
        found.append(predict(nn.Sequential(*layers), x)["0"].weight_gradient.allowance)
    assert found[0] == pytest.approx(found[1], abs=0.05)


@pytest.mark.parametrize("std", [1e80, 1e100])
def test_weights_that_overflow_raise_nothing(std):
    blocks = [nn.BasicBlock(8, 8, batchnorm=norm, activation=nn.Tanh if norm else nn.ReLU) for norm in (True, False)]
    model = nn.Sequential(nn.Conv2d(3, 8, 3, 1, 1, rng=0), nn.ReLU(), *blocks, nn.GlobalAvgPool2d(), nn.Linear(8, 4))
    digits = np.random.default_rng(0).standard_normal((4, 3, 6, 6)) * np.array([0.1, 1, 2, 3])[:, None, None, None]
    for x in ((4, 3, 6, 6), digits):
        assert len(str(predict(model, x, weight=init.Normal(std)))) > 0


def test_means_of_opposite_signs_cancel_without_an_error():
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, 1, 1, rng=0),
        nn.ReLU(),
        nn.Bottleneck(8, 2, 1, shortcut="B", batchnorm=False),
        nn.Bottleneck(8, 4, 2, shortcut="B", batchnorm=False, branch_scale=0.5),
        nn.Dropout(0.5, rng=0),
        nn.GlobalAvgPool2d(),
        nn.Linear(16, 10, rng=0),
    )
    report = predict(model, (4, 3, 5, 5), weight=init.Orthogonal(), bias=init.Constant(-3.0))
    assert all(row.forward.mean >= 0 for row in report)

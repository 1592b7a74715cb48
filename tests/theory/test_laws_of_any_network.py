"""What white noise, unbiased weights and many samples hide: each law against networks of its own kind.

`compare` judges every number by its grade: exact ones by a t-test, others within their allowance.
"""

import numpy as np
import pytest

from minires import init, nn
from minires.data import load_digits
from minires.theory import compare, measure, predict


def conv(i, o, kernel=3, stride=1, padding=1, bias=False):
    return nn.Conv2d(i, o, kernel, stride, padding, bias=bias, rng=0)


def digits(count, contrast=None):
    x = load_digits().x_train[:count].astype(np.float32)
    return x if contrast is None else x * np.resize(contrast, (count, 1, 1, 1)).astype(np.float32)


def offsets(model, value):
    """Every BatchNorm's bias, a number or one for each channel in turn."""
    for _, layer in model.named_layers():
        if isinstance(layer, nn.BatchNorm2d):
            layer.bias.value = np.resize(np.float32(value), layer.bias.value.shape)
    return model


def stack(*layers):
    return nn.Sequential(*layers)


NETWORKS = {
    "constant bias": (
        stack(conv(3, 16, bias=True), nn.ReLU(), conv(16, 16, bias=True), nn.ReLU()),
        (8, 3, 10, 9),
        {"bias": init.Constant(0.4)},
    ),
    "constant bias, negative": (
        stack(conv(3, 16, bias=True), nn.ReLU(), conv(16, 16, bias=True), nn.ReLU()),
        (8, 3, 10, 9),
        {"bias": init.Constant(-0.4)},
    ),
    "offsets below": (offsets(stack(conv(3, 16), nn.BatchNorm2d(16), nn.ReLU(), conv(16, 8)), -1.0), (16, 3, 8, 8), {}),
    "offsets above": (offsets(stack(conv(3, 16), nn.BatchNorm2d(16), nn.ReLU(), conv(16, 8)), 0.5), (16, 3, 8, 8), {}),
    "offsets of both signs": (
        offsets(stack(conv(3, 16), nn.BatchNorm2d(16), nn.ReLU(), conv(16, 8)), [0.7, -0.7]),
        (16, 3, 8, 8),
        {},
    ),
    "offsets in a stream": (offsets(nn.resnet(blocks=(2, 1), width=16), -0.5), (16, 3, 8, 8), {}),
    "four samples under a global pool": (nn.resnet(blocks=(1, 1), width=16), (4, 3, 10, 10), {}),
    "pool above pool": (
        stack(
            conv(3, 16),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.AvgPool2d(3, 1, 1),
            conv(16, 16),
            nn.ReLU(),
            nn.AvgPool2d(3, 2, 1),
        ),
        (8, 3, 10, 10),
        {},
    ),
    "maximum below an average": (
        stack(
            conv(3, 16), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(3, 2, 1), conv(16, 16), nn.ReLU(), nn.AvgPool2d(2)
        ),
        (8, 3, 12, 12),
        {},
    ),
    "maximum of tanh": (
        stack(conv(3, 16), nn.BatchNorm2d(16), nn.Tanh(), nn.MaxPool2d(2), conv(16, 8)),
        (16, 3, 8, 8),
        {},
    ),
    "dropout before a ReLU": (stack(conv(8, 16), nn.Dropout(0.4, rng=1), nn.ReLU(), conv(16, 8)), (16, 8, 8, 8), {}),
    "dropout before a sigmoid": (
        stack(conv(8, 16), nn.Dropout(0.4, rng=1), nn.Sigmoid(), conv(16, 8)),
        (16, 8, 8, 8),
        {},
    ),
    "weight gradients under a global pool": (
        stack(conv(3, 24), nn.ReLU(), conv(24, 24), nn.ReLU(), nn.GlobalAvgPool2d()),
        (8, 3, 6, 6),
        {},
    ),
    "tanh after a residual sum": (
        stack(conv(3, 16), nn.BatchNorm2d(16), nn.Tanh(), nn.BasicBlock(16, 16, activation=nn.Tanh)),
        (16, 3, 8, 8),
        {},
    ),
    "bottlenecks without BatchNorm": (nn.resnet(11, block=nn.Bottleneck, batchnorm=False, width=8), (8, 3, 8, 8), {}),
    "narrow pre-activation blocks": (
        stack(
            conv(3, 4, 1, 1, 0), nn.PreActBlock(4, 4, batchnorm=False), nn.PreActBlock(4, 4, batchnorm=False), nn.ReLU()
        ),
        (32, 3, 1, 1),
        {"weight": init.Normal(0.5)},
    ),
    "ReLU of BatchNorm of ReLU": (
        stack(conv(3, 16), nn.ReLU(), nn.BatchNorm2d(16), nn.ReLU(), conv(16, 8)),
        (16, 3, 8, 8),
        {},
    ),
    "images at a normalized stem": (
        stack(conv(1, 24), nn.BatchNorm2d(24), nn.ReLU(), conv(24, 24), nn.BatchNorm2d(24), nn.ReLU()),
        digits(64),
        {},
    ),
    "averages of images": (stack(conv(1, 24), nn.ReLU(), nn.AvgPool2d(2)), digits(16), {}),
    "tanh of mixed contrasts": (
        stack(conv(1, 24), nn.Tanh(), conv(24, 24), nn.Tanh()),
        digits(32, contrast=[0.1, 0.3, 1.0, 3.0]),
        {},
    ),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_every_number_with_a_grade_obeys_its_law(name):
    model, x, laws = NETWORKS[name]
    predicted = predict(model, x, **laws)
    graded = [row for row in predicted if row.forward.grade and row.gradient_out.grade]
    assert len(graded) >= 0.8 * len(predicted)
    report = compare(predicted, measure(model, x, seeds=60, **laws))
    assert report.ok, report.verdict


@pytest.mark.parametrize(
    ("name", "quantity", "path", "off"),
    [
        ("constant bias", "forward", "1", 1.2),
        ("offsets below", "forward", "2", 5),
        ("images at a normalized stem", "gradient_in", "0", 1.3),
    ],
)
def test_without_the_new_terms_these_laws_would_fail(name, quantity, path, off):
    """The plain law, of symmetric white noise, is off by more than the allowance there."""
    model, x, laws = NETWORKS[name]
    own = getattr(predict(model, x, **laws)[path], quantity)
    shape = x if isinstance(x, tuple) else x.shape
    plain = getattr(predict(offsets(model, 0.0), shape)[path], quantity)
    ratio = own.mean / plain.mean
    assert max(ratio, 1 / ratio) > max(off, 1 + own.allowance)


def test_small_batches_of_images_never_raise():
    x = digits(200)
    for count in (1, 2, 3, 5, 16):
        for first in range(0, 100, 25):
            report = predict(nn.resnet(blocks=(1, 1), width=8, in_channels=1), x[first : first + count])
            assert all(q.allowance <= 1 for row in report for q in (row.forward, row.batch_variance, row.gradient_in))


def test_a_model_as_it_is():
    """weight=None: the weights' own mean squares, whatever initializer they came from."""
    model = nn.plain20(in_channels=1, batchnorm=False, weight_init=init.XavierUniform(), rng=3)
    own = predict(model, (16, 1, 8, 8), weight=None)
    law = predict(model, (16, 1, 8, 8), weight=init.XavierUniform())
    for path in ("conv1", "layer2.0.conv1", "linear"):
        assert own[path].forward.mean == pytest.approx(law[path].forward.mean, rel=0.25)
        assert own[path].forward.grade == "MF"

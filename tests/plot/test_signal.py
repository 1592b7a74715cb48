"""What the pictures of signals and weights show, read back from their artists."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from minires import init, nn
from minires.plot.signal import Signal, draw_signals, draw_weights
from minires.theory import measure, predict

SHAPE = (8, 1, 8, 8)


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def model():
    return nn.plain20(in_channels=1, width=4, batchnorm=False)


def test_lines_bands_and_points():
    """One column a name; the line is the root of the predicted mean square, the points that of the measured one."""
    signals = {
        name: Signal(predict(model(), SHAPE, weight=law), measure(model(), SHAPE, seeds=3, weight=law))
        for name, law in (("He", init.HeNormal()), ("Xavier", init.XavierNormal()))
    }
    fig = draw_signals(signals, "title")
    axes = np.array(fig.axes).reshape(2, 2)
    for column, (name, signal) in zip(axes.T, signals.items(), strict=True):
        assert column[0].get_title(loc="left") == name
        for ax, quantity in zip(column, ("forward", "gradient_out"), strict=True):
            assert ax.get_yscale() == "log"
            rows = [row for row in signal.predicted if row.kind in ("ReLU", "Linear")]
            law = [getattr(row, quantity).mean for row in rows]
            found = [getattr(signal.measured[row.path], quantity).mean for row in rows]
            line = next(each for each in ax.lines if each.get_linestyle() == "-")
            points = ax.lines[-1]
            np.testing.assert_allclose(line.get_ydata(), np.sqrt(law))
            np.testing.assert_allclose(points.get_ydata(), np.sqrt(found))
            low, high = (ax.collections[0].get_paths()[0].vertices[:, 1].take([1, -2])).tolist()
            assert min(low, high) <= line.get_ydata()[0] <= max(low, high)


def test_a_prediction_alone_has_no_points():
    fig = draw_signals({"He": Signal(predict(model(), SHAPE))}, "title")
    assert all(len(ax.lines) == 1 for ax in fig.axes)
    words = [text.get_text() for text in fig.axes[0].texts]
    assert words == []
    assert [text.get_text() for text in fig.axes[1].texts] == ["line: theory"]


def test_weights_against_their_density():
    laws = {
        "normal": init.HeNormal(),
        "uniform": init.HeUniform(),
        "truncated": init.TruncatedNormal(0.1),
        "orthogonal": init.Orthogonal(),
    }
    shape = (64, 32, 3, 3)
    fig = draw_weights({name: (law, law.sample(shape, 0)) for name, law in laws.items()}, "title")
    for ax, name in zip(fig.axes, laws, strict=True):
        bars = ax.patches
        area = sum(bar.get_height() * bar.get_width() for bar in bars)
        assert area == pytest.approx(1)
        curves = [line for line in ax.lines if len(line.get_xdata()) > 2]
        assert len(curves) == (0 if name == "orthogonal" else 1)
        if curves:  # the middle of the histogram lies on the curve
            x, y = curves[0].get_data()
            middle = [bar for bar in bars if abs(bar.get_x()) < 0.3 * max(x)]
            law = [np.interp(bar.get_x() + bar.get_width() / 2, x, y) for bar in middle]
            np.testing.assert_allclose([bar.get_height() for bar in middle], law, rtol=0.25)

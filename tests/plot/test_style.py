"""Pictures can be read in grey and at half size: names lie beside each other, no curve is told by its color alone."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from minires import nn
from minires.gradcheck.curves import step_curve
from minires.plot.curves import draw_comparison, draw_history
from minires.plot.gradcheck import draw_steps
from minires.plot.signal import Signal, draw_signals
from minires.plot.style import end_labels, new_figure, plain_log
from minires.theory import predict
from minires.theory.summary import BLOCKS
from minires.train import History


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def overlaps(fig) -> list[tuple[str, str]]:
    """Pairs of texts within one of the axes that lie on each other when the figure is drawn."""
    fig.draw_without_rendering()
    found = []
    for ax in fig.axes:
        boxes = [(text.get_text(), text.get_window_extent().shrunk(0.98, 0.8)) for text in ax.texts if text.get_text()]
        found += [(a, b) for i, (a, one) in enumerate(boxes) for b, other in boxes[:i] if one.overlaps(other)]
    return found


def history(loss: float, epochs: int = 3) -> History:
    rows = [{"epoch": e, "step": 4 * e, "train_loss": loss / e, "test_loss": loss / e} for e in range(1, epochs + 1)]
    for row in rows:
        row |= {"train_accuracy": 1 - row["train_loss"] / 3, "test_accuracy": 1 - row["test_loss"] / 3}
    return History([{"step": step, "loss": loss, "lr": 0.1} for step in range(1, 4 * epochs)], rows)


@pytest.mark.parametrize("scale", ["linear", "log"])
@pytest.mark.parametrize("heights", [[1, 1, 1, 1], [1, 1.01, 5, 5.01], [5, 4.9, 4.8, 1], [1, float("nan"), 1, 1]])
def test_names_beside_curves_lie_apart(heights, scale):
    fig, axes = new_figure(1, 1, size=(4, 3))
    axes[0, 0].plot([[1, 1, 1, 1], heights])
    axes[0, 0].set_yscale(scale)
    end_labels(axes[0, 0], [(1, height, f"run {i}", "black") for i, height in enumerate(heights)])
    assert overlaps(fig) == []
    assert len(axes[0, 0].texts) == np.isfinite(heights).sum()


def test_curves_on_each_other_are_told_apart():
    runs = {"He": history(2.0), "pretrained": history(0.5), "pretrained, frozen": history(0.5)}
    for fig in (draw_comparison(runs, "starts"), draw_history(history(1.0), "one run")):
        assert overlaps(fig) == []
        for ax in fig.axes:
            named = [line for line in ax.lines if line.get_marker() not in ("", "None")]
            looks = [(line.get_linestyle(), line.get_marker()) for line in named]
            assert len(set(looks)) == len(looks) == len(ax.texts)


def test_differences_are_told_apart_in_grey():
    _, axes = new_figure()
    draw_steps(axes[0, 0], step_curve())
    looks = [(line.get_linestyle(), line.get_marker()) for line in axes[0, 0].get_legend_handles_labels()[0]]
    assert len(set(looks)) == len(looks) == 4
    assert "^(" not in axes[0, 0].get_title(loc="left"), "a formula is set as one"


@pytest.mark.parametrize(("low", "high"), [(0.3, 2.0), (0.01, 0.04), (0.02, 3.0), (1e-9, 1e9)])
def test_a_logarithmic_axis_has_several_ticks(low, high):
    fig, axes = new_figure()
    axes[0, 0].plot([low, high])
    plain_log(axes[0, 0])
    fig.draw_without_rendering()
    bottom, top = axes[0, 0].get_ylim()
    assert sum(bottom <= tick <= top for tick in axes[0, 0].get_yticks()) >= 2


def test_one_network_block_by_block():
    """Two panels side by side, every block named from the stem on, more than one tick on either axis."""
    signal = Signal(predict(nn.resnet20(), (8, 3, 32, 32)))
    fig = draw_signals({"He": signal}, "title", BLOCKS)
    fig.draw_without_rendering()
    names = ["stem", *(f"{stage}.{block}" for stage in (1, 2, 3) for block in range(3))]
    assert [ax.get_ylabel() for ax in fig.axes] == ["rms of the activations", "rms of the gradients"]
    for ax in fig.axes:
        assert [tick.get_text() for tick in ax.get_xticklabels()] == names
        assert sum(low <= tick <= high for (low, high) in [ax.get_ylim()] for tick in ax.get_yticks()) >= 2
    assert fig.axes[0].get_position().x1 <= fig.axes[1].get_position().x0


def test_a_loss_of_zero_has_no_place_on_a_logarithmic_axis(recwarn):
    """A network that is sure and right in float32: its name would stand infinitely far below."""
    steps = [{"step": n, "loss": 10.0**-n, "lr": 0.1} for n in range(1, 5)]
    parts = {"train_loss": 1e-3, "train_accuracy": 1.0, "test_loss": 0.0, "test_accuracy": 1.0}
    fig = draw_history(History(steps, [{"epoch": 1, "step": 4, **parts}]), "sure")
    fig.draw_without_rendering()
    assert not [w.message for w in recwarn if "layout" in str(w.message)]
    assert [text.get_text() for text in fig.axes[0].texts] == ["train"]

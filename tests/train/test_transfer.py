"""Taking over a part of trained weights, and comparing starts."""

import numpy as np

from minires import nn
from minires.data import Split, load_digits
from minires.plot.curves import draw_comparison
from minires.train import fit
from minires.transfer import compare_starts, start_from


def trained():
    x, y, x_test, y_test = load_digits()
    model = nn.resnet(8, width=8, in_channels=1, rng=1)
    fit(model, Split(x[:1200], y[:1200], x_test, y_test), epochs=3, batch_size=32)
    return model.state_dict(), Split(x[1200:], y[1200:], x_test, y_test)


def test_only_the_named_layers_are_taken_over():
    weights = nn.resnet(8, width=4, shortcut="B", rng=1).state_dict()
    found = start_from(weights, ["conv1", "layer2"], rng=2).state_dict()
    fresh = start_from(weights, [], rng=2).state_dict()
    for name in weights:
        source = weights if name.split(".")[0] in ("conv1", "layer2") else fresh
        assert np.array_equal(found[name], source[name]), name
    assert not np.array_equal(fresh["conv1.weight"], weights["conv1.weight"])


def test_a_trained_start_beats_he_from_the_first_epoch():
    """On the digits; the real images run by `python -m tests.train.evidence finetune`."""
    weights, data = trained()
    runs = compare_starts(weights, data, epochs=2, batch_size=16, frozen=True)
    accuracy = {name: history.column("test_accuracy") for name, history in runs.items()}
    assert all(tuned > he for tuned, he in zip(accuracy["pretrained"], accuracy["He"], strict=True))
    assert accuracy["pretrained, frozen"][0] > accuracy["He"][0]
    texts = {text.get_text() for ax in draw_comparison(runs, "starts").axes for text in ax.texts}
    assert texts == set(runs)

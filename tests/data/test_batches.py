"""Batches: everything once, in an order that seed and epoch decide; augmentation keeps images images."""

import time

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from minires import nn
from minires.data import Augmentation, Split, batches, count_batches, hold_out, normalize

X = np.arange(10 * 2 * 3 * 4, dtype=np.float32).reshape(10, 2, 3, 4)
Y = np.arange(10)


def labels_of(**options):
    return [labels.tolist() for _, labels in batches(X, Y, 4, **options)]


def test_in_order_without_a_seed():
    assert [label for batch in labels_of() for label in batch] == Y.tolist()


@pytest.mark.parametrize("count", [1, 7, 8, 9, 10])
@pytest.mark.parametrize("size", [1, 3, 4, 9, 100])
def test_every_image_once_and_no_tiny_rest(count, size):
    found = [(x, y) for x, y in batches(X[:count], Y[:count], size, seed=3)]
    sizes = [len(y) for _, y in found]
    assert len(sizes) == count_batches(count, size) and max(sizes) <= size and max(sizes) - min(sizes) <= 1
    assert sorted(np.concatenate([y for _, y in found])) == Y[:count].tolist()
    assert all(np.array_equal(x, X[y]) for x, y in found)


def test_seed_and_epoch_decide_the_order():
    assert labels_of(seed=0) == labels_of(seed=0)
    assert labels_of(seed=0) != labels_of(seed=1)
    assert labels_of(seed=0, epoch=0) != labels_of(seed=0, epoch=1)


def test_an_epoch_can_be_taken_up_in_the_middle():
    options = {"seed": 5, "epoch": 2, "augmentation": Augmentation(pad=1, flip=True)}
    whole, rest = list(batches(X, Y, 4, **options)), list(batches(X, Y, 4, start=1, **options))
    for (x, y), (x_again, y_again) in zip(whole[1:], rest, strict=True):
        assert np.array_equal(x, x_again) and np.array_equal(y, y_again)


def test_a_crop_is_a_window_of_the_padded_image():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((50, 2, 5, 7)).astype(np.float32)
    cropped = Augmentation(pad=2).apply(x, rng)
    padded = np.pad(x, ((0, 0), (0, 0), (2, 2), (2, 2)))
    windows = {(i, j): padded[:, :, i : i + 5, j : j + 7] for i in range(5) for j in range(5)}
    seen = [{at for at, w in windows.items() if np.array_equal(w[n], cropped[n])} for n in range(50)]
    assert all(len(at) == 1 for at in seen)
    assert len(set.union(*seen)) > 15  # of 25 places; 50 draws miss 25 * (24/25)**50 = 3.2 of them on average


def test_every_batch_and_epoch_is_augmented_anew():
    x = np.broadcast_to(np.random.default_rng(0).standard_normal((1, 6, 6)), (80, 1, 6, 6))
    moves = Augmentation(pad=2, flip=True)
    seen = [
        images
        for epoch in (0, 1)
        for images, _ in batches(x, np.zeros(80), 40, seed=0, epoch=epoch, augmentation=moves)
    ]
    assert not any(np.array_equal(seen[i], seen[j]) for i in range(4) for j in range(i))


def test_flip_mirrors_about_half():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((1000, 1, 2, 3)).astype(np.float32)
    flipped = Augmentation(flip=True).apply(x, rng)
    mirrored = (flipped == x[..., ::-1]).all((1, 2, 3))
    assert ((flipped == x).all((1, 2, 3)) != mirrored).all()
    assert abs(mirrored.mean() - 0.5) < 4.9 * np.sqrt(0.25 / 1000)  # z of a false-alarm rate of 1e-6


def test_inputs_are_left_alone():
    before = X.copy()
    list(batches(X, Y, 4, seed=0, augmentation=Augmentation(pad=2, flip=True)))
    assert np.array_equal(X, before)


@pytest.mark.parametrize(
    ("arguments", "options", "says"),
    [
        ((X, Y, 0), {}, "batch_size is 0"),
        ((X, Y[:3], 4), {}, "10 images and y 3 labels"),
        ((X[:0], Y[:0], 4), {}, "0 images"),
        ((X, Y, 4), {"augmentation": Augmentation(1)}, "needs a seed"),
    ],
)
def test_wrong_use_is_refused_before_the_first_batch(arguments, options, says):
    with pytest.raises(ValueError, match=says):
        batches(*arguments, **options)


class Series:
    """What matters of a pandas Series: a shape, a dtype, and an index of its own by which it is looked up."""

    shape, dtype = Y.shape, Y.dtype

    def __len__(self):
        return len(Y)

    def __getitem__(self, where):
        return Y[::-1][where]


@pytest.mark.filterwarnings("ignore:the matrix subclass")
def test_arrays_that_would_lose_something_are_refused():
    for labels in (Series(), np.ma.masked_array(Y, Y > 1), np.asmatrix(Y)):
        for call in (batches, hold_out):
            with pytest.raises(TypeError, match=r"expected a (NumPy or CuPy|plain) array, got a? ?(Ser|Mask|matrix)"):
                call(X, labels, 2)


@pytest.mark.parametrize(
    ("images", "error", "says"),
    [
        (np.full((2, 1, 2, 2), 0.5, np.float32), TypeError, "images has dtype float32; expected whole numbers"),
        (
            np.full((2, 1, 2, 2), 4000, np.uint16),
            ValueError,
            "images holds 4000 to 4000; expected 0 to top, which is 255",
        ),
        (np.full((2, 1, 2, 2), -1, np.int8), ValueError, "images holds -1"),
    ],
)
def test_images_that_are_scaled_already_or_otherwise_are_not_scaled_again(images, error, says):
    with pytest.raises(error, match=says):
        normalize(images, [0.5], [0.25])


def test_hold_out_is_stratified():
    labels = np.repeat(np.arange(5), [100, 80, 60, 40, 20])
    split = hold_out(np.arange(300.0), labels, 60, seed=1)
    assert isinstance(split, Split) and np.bincount(split.y_test).tolist() == [20, 16, 12, 8, 4]
    assert sorted([*split.x_train, *split.x_test]) == list(range(300))
    with pytest.raises(ValueError, match="300 images"):
        hold_out(np.arange(300.0), labels, 300)


@threadpool_limits.wrap(1)
def test_preparing_a_batch_costs_under_3_percent_of_a_step():
    """In this thread's processor time, the best of a few, and BLAS on this thread alone: what others do, and how many
    cores there are, makes no difference."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((512, 3, 32, 32)).astype(np.float32), np.zeros(512, int)
    preparing, steps = [], []
    for _ in range(4):
        start = time.thread_time()
        prepared = list(batches(x, y, 128, seed=0, augmentation=Augmentation(pad=4, flip=True)))
        preparing.append((time.thread_time() - start) / len(prepared))
    model, loss = nn.resnet20(), nn.SoftmaxCrossEntropy()
    images, labels = prepared[0]
    for _ in range(2):
        start = time.thread_time()
        loss.forward(model.forward(images), labels)
        model.backward(loss.backward())
        steps.append(time.thread_time() - start)
    assert min(preparing) < 0.03 * min(steps)

"""A folder of pictures, one folder a class."""

import os

import numpy as np
import pytest

from minires.data import DataError, count_classes, load, load_images, load_test, recognize

Image = pytest.importorskip("PIL.Image")


def draw(path, size=(10, 8), mode="RGB", seed=0):
    """A picture of noise at `path`; its pixels (H, W) or (H, W, 3)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3)[: 3 if mode == "RGB" else 2], np.uint8)
    Image.fromarray(pixels).save(path)
    return pixels


@pytest.fixture
def photos(tmp_path):
    for name in ("dog", "cat"):
        for i in range(10):
            draw(tmp_path / "photos" / name / f"{i}.png", seed=i)
    (tmp_path / "photos" / "cat" / "notes.txt").write_text("no picture")
    (tmp_path / "photos" / "cat" / ".hidden.png").write_text("no picture")
    return tmp_path / "photos"


def test_every_fifth_of_a_class_tests(photos):
    split = load(str(photos))
    assert [part.shape[0] for part in split] == [16, 16, 4, 4] and split.x_train.shape[1:] == (3, 8, 10)
    assert split.y_test.tolist() == [0, 0, 1, 1] and recognize(photos) == "images" and count_classes(photos) == 2
    pixels = draw(photos / "cat" / "0.png")
    assert np.allclose(split.x_train[0, 2], (pixels[..., 2] / 255 - 0.406) / 0.225, atol=1e-6)
    assert np.array_equal(load_test(photos)[0], split.x_test)
    assert [len(part) for part in load(photos, held_out=6)] == [14, 14, 6, 6]


@pytest.mark.parametrize("name", ["test", "val"])
def test_the_folders_may_say_what_tests(tmp_path, name):
    for i, label in enumerate(("a", "b", "c")):
        draw(tmp_path / "train" / label / "1.jpg")
        draw(tmp_path / name / label / "x.jpg", seed=i)
    split = load_images(tmp_path)
    assert split.y_train.tolist() == split.y_test.tolist() == [0, 1, 2]


def test_gray_pictures_have_one_channel_and_large_ones_are_made_small(tmp_path):
    for label in "ab":
        for i in range(5):
            draw(tmp_path / label / f"{i}.png", (100, 80), mode="L")
    assert load_images(tmp_path).x_train.shape == (8, 1, 32, 32)
    draw(tmp_path / "b" / "5.png")
    assert load_images(tmp_path).x_train.shape == (9, 3, 32, 32)


def test_what_is_wrong_is_named(photos, tmp_path):
    (photos / "dog" / "3.png").write_bytes((photos / "dog" / "3.png").read_bytes()[:150])
    with pytest.raises(DataError, match=r"dog.3\.png: a damaged picture"):
        load_images(photos)
    (photos / "dog" / "3.png").write_text("text")
    with pytest.raises(DataError, match=r"dog.3\.png: no picture that can be read"):
        load_images(photos)
    draw(tmp_path / "one" / "only" / "1.png")
    with pytest.raises(DataError, match=r"at least two; found \['only'\]"):
        load_images(tmp_path / "one")
    with pytest.raises(ValueError, match="or a folder; did you mean 'mnist'"):
        load("mnits")


def test_a_picture_of_too_many_pixels_is_refused_unread(photos):
    Image.new("1", (10_000, 6_000)).save(photos / "cat" / "huge.png")
    with pytest.raises(DataError, match=r"huge.png: 10000x6000 pixels"):
        load_images(photos)


def test_sixteen_bits_are_scaled_and_thirty_two_refused(tmp_path):
    """Pillow's own conversion makes white of every value above 255."""
    pixels = np.random.default_rng(0).integers(0, 2**16, (8, 10), np.uint16)
    for label in "ab":
        (tmp_path / label).mkdir()
        for i in range(5):
            Image.fromarray(pixels).save(tmp_path / label / f"{i}.png")
    x = load_images(tmp_path).x_train
    assert x.shape == (8, 1, 8, 10) and np.allclose((x[0, 0] * 0.25 + 0.5) * 255, pixels // 256, atol=1e-3)
    Image.fromarray(pixels.astype(np.float32)).save(tmp_path / "a" / "0.tif")
    with pytest.raises(DataError, match=r"0\.tif: values of 32 bits; expected a picture of 8 or 16"):
        load_images(tmp_path)


@pytest.mark.parametrize("kind", ["RGBA", "LA", "P"])
def test_what_is_transparent_shows_white(tmp_path, kind):
    """A canvas saves strokes as black on transparent black: without its transparency, every drawing is the same."""
    alpha = np.random.default_rng(0).integers(0, 2, (8, 10)).astype(np.uint8) * 255
    drawing = Image.fromarray(np.dstack([alpha * 0] * 3 + [alpha]), "RGBA")
    for label in "ab":
        (tmp_path / label).mkdir()
        for i in range(5):
            drawing.convert(kind).save(tmp_path / label / f"{i}.png")
    x = load_images(tmp_path).x_train
    shades = (
        (x[0] * 0.25 + 0.5)
        if kind == "LA"
        else x[0] * np.array([0.229, 0.224, 0.225]).reshape(3, 1, 1)
        + (np.array([0.485, 0.456, 0.406]).reshape(3, 1, 1))
    )
    assert np.allclose(shades, alpha == 0, atol=1e-6)


def test_a_class_too_small_to_be_tested_is_named(photos):
    for i in range(6):
        (photos / "cat" / f"{i}.png").unlink()
    with pytest.raises(DataError, match=r"photos.cat: 4 pictures; expected at least 5 in a class"):
        load_images(photos)
    assert len(load_images(photos, 3).x_test) == 3


def test_a_folder_around_the_folder_is_named(photos, tmp_path):
    with pytest.raises(DataError, match=r"no folders of pictures, one a class; .*photos does"):
        load(tmp_path)
    (tmp_path / "table").mkdir()
    (tmp_path / "table" / "train.csv").write_text("label,pixel0")
    with pytest.raises(DataError, match=r"table: it holds train\.csv, a format that is not read; "):
        load(tmp_path / "table")


def test_a_class_that_only_the_tests_have_is_named(tmp_path):
    for part, label in (("train", "cat"), ("train", "dog"), ("test", "cat"), ("test", "dogs")):
        draw(tmp_path / part / label / "1.png")
    with pytest.raises(DataError, match=r"test: has the class dogs; expected those of .*train: cat, dog"):
        load_images(tmp_path)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("cat/phone.heic", r"phone\.heic: no picture that can be read"),
        ("cat/2025/1.png", r"2025: pictures in a folder of their own; expected those of a class in .*cat"),
        ("bird/", r"bird: an empty folder; expected pictures of a class"),
    ],
)
def test_pictures_that_would_be_left_out_are_named(photos, name, says):
    path = photos / name
    path.parent.mkdir(exist_ok=True)
    if name.endswith("/"):
        path.mkdir()
    elif name.endswith(".heic"):
        path.write_bytes(b"\0\0\0\x18ftypheic")
    else:
        draw(path)
    with pytest.raises(DataError, match=says):
        load_images(photos)


@pytest.mark.skipif(os.name == "nt", reason="Windows lets few users make links")
def test_a_link_to_a_picture_that_is_gone_is_named(photos):
    (photos / "cat" / "99.png").symlink_to("moved.png")
    with pytest.raises(DataError, match=r"99\.png: no picture that can be read"):
        load_images(photos)


def test_what_systems_leave_in_folders_is_no_picture(photos):
    for name in ("__MACOSX/cat/._1.png", ".ipynb_checkpoints/1.png", "cat/.DS_Store", "cat/Thumbs.db", "labels/1.txt"):
        (photos / name).parent.mkdir(parents=True, exist_ok=True)
        (photos / name).write_bytes(b"\0")
    assert [len(part) for part in load_images(photos)] == [16, 16, 4, 4] and count_classes(photos) == 2


def test_the_other_endings_of_jpegs_are_known(photos):
    for i, ending in enumerate(("jfif", "jpe", "JPG")):
        Image.new("RGB", (10, 8)).save(photos / "cat" / f"more{i}.{ending}", "jpeg")
    assert sum(len(part) for part in load_images(photos)[1::2]) == 23

"""Images: found, read as they are, divided without leaks, and varied by a formula that can be checked."""

import io
import json
import tarfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.datasets import load_digits

from kakehashi.data import DataError, images, sets
from kakehashi.data.images import Form, Images, ImageSet, Shown


def some(n: int, size: int = 5, channels: int = 1, n_classes: int = 3, seed: int = 0) -> Images:
    rng = np.random.default_rng(seed)
    return Images(rng.integers(0, 256, (n, size, size, channels), dtype=np.uint8), rng.integers(0, n_classes, n))


def named(found: Images, n_classes: int = 3) -> ImageSet:
    return ImageSet("mine", found, tuple("abc"[:n_classes]), "0", True, "", "", "mine", 0, False)


def keys(found: Images) -> list[bytes]:
    return [image.tobytes() for image in found.pixels]


def put(path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)


@pytest.fixture
def folder(tmp_path):
    """Two classes of four grey images each, 6 x 4 pixels."""
    rng = np.random.default_rng(0)
    for name in ("cat", "dog"):
        for i in range(4):
            put(tmp_path / "pets" / name / f"{i}.png", rng.integers(0, 256, (4, 6), dtype=np.uint8))
    return tmp_path / "pets"


# --- The sets known by name ---


def test_digits_are_scikit_learns_and_the_last_fifth_is_the_test():
    train, test = images.read("digits"), images.read("digits", part="test")
    pixels, labels = load_digits(return_X_y=True)
    both = np.concatenate((train.images.pixels, test.images.pixels)).reshape(1797, 64)
    assert np.array_equal(np.round(both / 255 * 16), pixels) and len(test.images) == 360
    assert np.array_equal(np.concatenate((train.images.labels, test.images.labels)), labels)
    assert train.classes == tuple("0123456789") and not train.private and train.sha256 != test.sha256


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_the_test_part_is_read_from_files_of_its_own(name, data_dir, monkeypatch):
    find, asked = sets.find, []
    monkeypatch.setattr(sets, "find", lambda name, nth=0: asked.append(nth) or find(name, nth))
    found = images.read(name, part="test")
    assert found.images.pixels.shape == (10_000, 28, 28, 1) and len(found.classes) == 10
    assert set(found.images.labels) == set(range(10)) and asked == [2, 3]
    if name == "fashion-mnist":
        assert (np.bincount(found.images.labels) == 1000).all()
        asked.clear()
        split = images.read(name).split()
        assert asked == [0, 1], "training reads the files of training alone"
        assert split.shared == 0 and 53_900 < len(split.train) <= 54_000 and 5_990 < len(split.val) <= 6_000


def test_another_size_is_the_mean_of_the_pixels_it_covers():
    whole, half = images.read("digits"), images.read("digits", size=4)
    means = whole.images.pixels.reshape(-1, 4, 2, 4, 2).astype(float).mean((2, 4))
    assert np.abs(half.images.pixels[..., 0] - means).max() <= 1
    assert whole.sha256 == half.sha256


def test_photographs_in_a_tar_are_decoded_once(tmp_path, monkeypatch):
    monkeypatch.setenv("KAKEHASHI_DATA", str(tmp_path))
    monkeypatch.setenv("KAKEHASHI_HOME", str(tmp_path / "home"))
    (tmp_path / "photos").mkdir()
    path = tmp_path / "photos" / "photos.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for part, n in (("train", 3), ("test", 1)):
            for name, colour in (("frog", (0, 200, 0)), ("ship", (0, 0, 200))):
                for i in range(n):
                    file = io.BytesIO()
                    Image.new("RGB", (32, 32), colour).save(file, "JPEG")
                    member = tarfile.TarInfo(f"cifar10/{part}/{name}/{i:04d}.jpg")
                    member.size = file.tell()
                    file.seek(0)
                    archive.addfile(member, file)
    file = sets.File("photos/photos.tar.gz", images.hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_size)
    monkeypatch.setattr(sets, "_SETS", (sets.DataSet("cifar10-jpg", "image", "none", (file,)),))
    found = images.read("cifar10-jpg")
    assert found.classes == ("frog", "ship") and found.images.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert np.abs(found.images.pixels[0].astype(int) - (0, 200, 0)).max() <= 3
    opened = images._opened
    monkeypatch.setattr(images, "_opened", None)
    again = images.read("cifar10-jpg")
    assert np.array_equal(again.images.pixels, found.images.pixels) and again.classes == found.classes
    monkeypatch.setattr(images, "_opened", opened)
    (kept,) = (tmp_path / "home").rglob("train.npz")
    np.savez(kept, pixels=found.images.pixels * 0, labels=found.images.labels, classes=found.classes, sha256="another")
    third = images.read("cifar10-jpg")
    assert np.array_equal(third.images.pixels, found.images.pixels), "what was kept of another file is not taken"


@pytest.mark.parametrize(
    "name, words",
    [
        ("names", "names holds text, and this needs images: choose digits, mnist"),
        ("dates", "dates holds pairs of texts, and this needs images"),
        ("no/such", "no/such is not there"),
    ],
)
def test_what_holds_no_images_is_refused(name, words):
    with pytest.raises(DataError, match=words):
        images.read(name)


# --- A folder of one's own ---


def test_a_folder_is_private_and_its_sub_folders_are_the_classes(folder):
    put(folder / "dog" / "deep" / "photo.JPG", np.zeros((9, 9, 3), np.uint8))
    (folder / ".cache").mkdir()
    (folder / "dog" / "notes.txt").write_text("no image", encoding="utf-8")
    (folder / "dog" / "broken.png").write_bytes((folder / "dog" / "0.png").read_bytes()[:60])
    found = images.read(folder, 8)
    assert found.classes == ("cat", "dog") and found.private and found.name == "pets"
    assert found.images.labels.tolist() == [0] * 4 + [1] * 5
    assert found.images.pixels.shape == (9, 8, 8, 3), "one photograph in colours makes all so"
    assert "9 images, 2 left out" in found.origin, "the broken one and the notes"
    assert images.read(folder).images.pixels.shape == (9, 32, 32, 3)
    put(folder / "dog" / "deep" / "photo.JPG", np.ones((9, 9, 3), np.uint8))
    before = images.read(folder, 8).sha256
    assert before != found.sha256
    (folder / "dog" / "0.png").rename(folder / "cat" / "9.png")
    assert images.read(folder, 8).sha256 != before, "an image of another class is another set"


def test_grey_images_have_one_channel_and_are_read_as_they_are(folder):
    found = images.read(folder, 4)
    assert found.images.pixels.shape == (8, 4, 4, 1)
    with Image.open(folder / "cat" / "0.png") as image:
        middle = np.asarray(image)[:, 1:5]  # of 6 x 4 pixels the middle square
    assert np.array_equal(found.images.pixels[0, ..., 0], middle)


def test_of_16_bits_a_pixel_the_upper_8_are_read(folder):
    deep = (np.arange(16, dtype=np.uint16) * 4096).reshape(4, 4)
    Image.fromarray(deep).save(folder / "cat" / "0.png")
    found = images.read(folder, 4)
    assert np.array_equal(found.images.pixels[0, ..., 0], deep >> 8) and found.images.pixels.shape[-1] == 1


def test_a_folder_may_bring_its_own_test(folder, tmp_path):
    with pytest.raises(DataError, match="has no part for a test: make it train/ and test/"):
        images.read(folder, part="test")
    both = tmp_path / "both"
    both.mkdir()
    folder.rename(both / "train")
    put(both / "test" / "cat" / "a.png", np.zeros((4, 4), np.uint8))
    put(both / "test" / "dog" / "a.png", np.zeros((4, 4), np.uint8))
    assert len(images.read(both).images) == 8 and len(images.read(both, part="test").images) == 2


def test_a_folder_of_one_class_is_refused(tmp_path):
    put(tmp_path / "one" / "a.png", np.zeros((4, 4), np.uint8))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="images of 1 classes: it takes two sub-folders or more"):
        images.read(tmp_path)


# --- Dividing ---


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 2)), min_size=2, max_size=60), st.integers(0, 5))
def test_what_is_validated_on_is_not_trained_on_and_nothing_is_lost(drawn, seed):
    """Images that are equal count once, with their first label; of each class with two images one is validated on."""
    values, labels = np.array(drawn).T
    found = Images(np.tile(values.astype(np.uint8)[:, None, None, None], (1, 2, 2, 1)), labels)
    first = dict(reversed([(value, label) for value, label in drawn]))
    counts = np.bincount(list(first.values()), minlength=3)
    if counts.max() < 2:
        with pytest.raises(DataError, match="too small"):
            named(found).split(seed)
        return
    split = named(found).split(seed)
    parts = [
        dict(zip(part.pixels[:, 0, 0, 0].tolist(), part.labels.tolist(), strict=True))
        for part in (split.train, split.val)
    ]
    assert parts[0].keys().isdisjoint(parts[1]) and parts[0] | parts[1] == first
    assert len(split.train) + len(split.val) == len(first) and split.shared == 0
    for label, n in enumerate(counts):
        assert (split.val.labels == label).sum() == max(round(n / 10), n > 1)
    again = named(found).split(seed)
    assert keys(again.val) == keys(split.val) and again.name == split.name


def test_the_share_in_other_images_is_counted_pixel_by_pixel():
    split = named(some(90)).split(1)
    other = named(some(90)).split(2)
    known = set(keys(other.train))
    assert split.share_in(other.train) == sum(key in known for key in keys(split.val)) / len(split.val) > 0.5


# --- The form ---


@pytest.mark.parametrize("channels", [1, 3])
def test_numbers_have_mean_0_and_variance_1_over_the_training_images_in_each_channel(channels):
    found = some(50, channels=channels)
    form = Form.of(tuple("abc"), found)
    x = form.numbers(found.pixels)
    assert x.shape == (50, channels, 5, 5) and x.dtype == np.float32
    assert np.allclose(x.mean((0, 2, 3)), 0, atol=1e-5) and np.allclose(x.std((0, 2, 3)), 1, atol=1e-5)
    i, c, row, column = 7, channels - 1, 2, 4
    by_hand = (found.pixels[i, row, column, c] / 255 - form.mean[c]) / form.deviation[c]
    assert x[i, c, row, column] == pytest.approx(by_hand, rel=1e-5)


def test_a_form_outlives_its_file_and_reads_images_as_in_training(tmp_path):
    found = some(9)
    form = Form.of(tuple("abc"), found)
    path = tmp_path / "images.json"
    path.write_text(json.dumps(form.to_dict()), encoding="utf-8")
    assert images.load_form(path) == form
    put(tmp_path / "a.png", found.pixels[3, ..., 0])
    assert np.array_equal(form.read(tmp_path / "a.png"), found.pixels[3])


@pytest.mark.parametrize("text", ["[]", "{", '{"format": 1, "kind": "char"}', "null"])
def test_what_is_no_form_is_refused_with_the_file(tmp_path, text):
    (tmp_path / "images.json").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match="images.json"):
        images.load_form(tmp_path / "images.json")


def test_images_of_one_colour_show_nothing():
    with pytest.raises(DataError, match="one and the same colour"):
        Form.of(("a",), Images(np.full((3, 2, 2, 1), 7, np.uint8), np.zeros(3, np.int64)))
    found = some(9, channels=3)
    found.pixels[..., 2] = 40  # one of three colours never changes
    form = Form.of(tuple("abc"), found)
    x = form.numbers(found.pixels)
    assert (x[:, 2] == 0).all() and np.allclose(x[:, :2].std((0, 2, 3)), 1, atol=1e-5)
    assert Form.from_dict(form.to_dict()) == form


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda path: path.write_bytes(b"hello"), "is no PNG or JPEG image"),
        (lambda path: path.write_bytes(b""), "is no PNG or JPEG image"),
        (lambda path: Image.new("L", (9, 9)).save(path, "GIF"), "is no PNG or JPEG image"),
        (lambda path: None, "there is no file"),
        (lambda path: path.mkdir(), "cannot read"),
        (lambda path: Image.new("L", (12_000, 9_000)).save(path, "PNG"), "cannot read .* decompression bomb"),
    ],
    ids=["text", "empty", "gif", "missing", "folder", "bomb"],
)
def test_what_is_no_image_is_refused_in_one_line(tmp_path, make, words):
    path = tmp_path / "a.png"
    make(path)
    with pytest.raises(DataError, match=words) as caught:
        Form(("a", "b"), 4, 1, (0.5,), (0.2,)).read(path)
    assert "\n" not in str(caught.value)


def test_a_torn_image_is_refused_in_one_line(tmp_path):
    path = tmp_path / "a.png"
    put(path, some(1, 64).pixels[0, ..., 0])
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(DataError, match="cannot read"):
        Form(("a", "b"), 4, 1, (0.5,), (0.2,)).read(path)


def test_an_image_whose_exif_is_damaged_is_refused_in_one_line(tmp_path):
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a street"
    damaged = exif.tobytes().replace(b"\x01\x0e", b"\x01\x29")  # the description's words as the number of a page
    put(tmp_path / "a.png", some(1, 8).pixels[0, ..., 0], exif=damaged)
    with pytest.raises(DataError, match="cannot read .*a.png: "):
        Form(("a", "b"), 4, 1, (0.5,), (0.2,)).read(tmp_path / "a.png")


def test_what_is_transparent_is_white_and_a_photograph_stands_upright(tmp_path):
    form = Form(("a", "b"), 2, 1, (0.5,), (0.2,))
    Image.new("RGBA", (2, 2), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    assert (form.read(tmp_path / "clear.png") == 255).all()
    exif = Image.Exif()
    exif[0x0112] = 3  # turned by 180 degrees
    turned = np.array([[0, 80], [160, 240]], np.uint8)
    Image.fromarray(turned).save(tmp_path / "turned.png", exif=exif)
    assert np.array_equal(form.read(tmp_path / "turned.png")[..., 0], turned[::-1, ::-1])


# --- Batches ---


@settings(max_examples=30)
@given(st.integers(1, 20), st.integers(1, 9), st.integers(0, 2**63 - 1))
def test_each_image_comes_once_an_epoch_and_a_batch_follows_from_its_arguments(n, batch_size, seed):
    found = some(n)
    source = Shown(found, FORM)
    shown = [source.batch(step, batch_size, seed) for step in range(n)]  # batch_size epochs
    labels = np.concatenate([batch.targets for batch in shown])
    places = np.concatenate([batch.inputs[0] for batch in shown])
    for epoch in range(batch_size):
        seen = places[epoch * n : (epoch + 1) * n]
        assert sorted(each.tobytes() for each in seen) == sorted(each.tobytes() for each in FORM.numbers(found.pixels))
        assert sorted(labels[epoch * n : (epoch + 1) * n]) == sorted(found.labels)
    assert all(batch.n_targets == batch_size for batch in shown)
    again = source.batch(n - 1, batch_size, seed)
    assert np.array_equal(again.inputs[0], shown[-1].inputs[0]) and np.array_equal(again.targets, shown[-1].targets)


FORM = Form(("a", "b", "c"), 5, 1, (0.5,), (0.25,))


@pytest.mark.parametrize("shift, flip", [(0, True), (1, False), (2, True)])
def test_training_shows_every_shift_and_mirror_image_that_is_asked_for_and_no_other(shift, flip):
    found = some(1)
    padded = np.pad(found.pixels[0], ((shift, shift), (shift, shift), (0, 0)), mode="edge")
    variants = set()
    for down in range(2 * shift + 1):
        for right in range(2 * shift + 1):
            cut = padded[down : down + 5, right : right + 5]
            variants |= {cut.tobytes(), cut[:, ::-1].tobytes()} if flip else {cut.tobytes()}
    source = Shown(found, Form(("a",), 5, 1, (0.0,), (1 / 255,)), shift, flip)  # numbers are the pixels
    seen = set()
    for step in range(40):
        x = source.batch(step, 16, seed=3).inputs[0]
        seen |= {each.transpose(1, 2, 0).round().astype(np.uint8).tobytes() for each in x}
    assert seen == variants
    (whole,) = source.whole(4)
    assert whole.inputs[0].round().astype(np.uint8).tobytes() == found.pixels.tobytes()


def test_the_whole_is_every_image_once_in_order():
    found = some(11)
    batches = list(Shown(found, FORM, shift=2, flip=True).whole(4))
    assert [len(batch.targets) for batch in batches] == [4, 4, 3]
    assert np.array_equal(np.concatenate([batch.inputs[0] for batch in batches]), FORM.numbers(found.pixels))
    assert np.array_equal(np.concatenate([batch.targets for batch in batches]), found.labels)

"""Images to classify: read, divided, and cut into batches. N images, H height, W width, C channels (1 grey, 3 colours).

found = images.read("digits")                             # or mnist, fashion-mnist, cifar10-jpg, a folder of folders
parts = found.split(seed=1337)
form = Form.of(found.classes, parts.train)
Shown(parts.train, form, shift=1).batch(step=0, batch_size=32, seed=1337)     # Batch((x (B, C, H, W),), labels (B,))
"""

import gzip
import hashlib
import io
import json
import os
import struct
import tarfile
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kakehashi import paths
from kakehashi.data import sets
from kakehashi.data.batches import Batch, items
from kakehashi.data.errors import DataError
from kakehashi.data.text import read_bytes

FORMATS = ("PNG", "JPEG")  # what Pillow may open: every decoder more is one more that a file can attack
SUFFIXES = (".png", ".jpg", ".jpeg")
DAMAGED = (OSError, ValueError, SyntaxError, struct.error)  # what Pillow raises where a file is not as it should be
GREY = ("1", "L", "LA", "I", "I;16", "I;16B")  # Pillow's modes without colours
FOLDER_SIZE = 32  # pixels, height and width: of a folder's images, where nothing else is said
DIGITS_TEST = 360  # the last fifth of the set
NAMES = {
    "digits": tuple("0123456789"),
    "mnist": tuple("0123456789"),
    "fashion-mnist": (
        "T-shirt",
        "trousers",
        "pullover",
        "dress",
        "coat",
        "sandal",
        "shirt",
        "sneaker",
        "bag",
        "ankle boot",
    ),
}
# pixels by which an image may be shifted, and whether its mirror image is of the same class
AUGMENT = {"digits": (1, False), "mnist": (2, False), "fashion-mnist": (2, True), "cifar10-jpg": (2, True)}


@dataclass(frozen=True)
class Images:
    """pixels (N, H, W, C) uint8 and labels (N,) int64, the place of each image's class among the classes."""

    pixels: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, places: np.ndarray) -> "Images":
        """The images at these places."""
        return Images(self.pixels[places], self.labels[places])


@dataclass(frozen=True)
class Split:
    """Images to train on and images to validate on; `name` says in words how they were divided."""

    train: Images
    val: Images
    name: str

    @property
    def shared(self) -> float:
        """The share of the images to validate on that are trained on, too."""
        return self.share_in(self.train)

    def share_in(self, images: Images) -> float:
        """The share of the images to validate on that stand in `images`, pixel by pixel."""
        known = {image.tobytes() for image in images.pixels}
        return sum(image.tobytes() in known for image in self.val.pixels) / len(self.val)


@dataclass(frozen=True)
class ImageSet:
    """One part of a data set.

    sha256    of the images and their labels as they were found, before any change of size
    private   not one of the sets known by name: nothing learnt from it leaves the machine unasked
    source    what `read` takes to find it again: a name, or an absolute path
    shift, flip    how training may vary the images without a change of class: pixels up, down and aside; mirrored
    """

    name: str
    images: Images
    classes: tuple[str, ...]
    sha256: str
    private: bool
    licence: str
    origin: str
    source: str
    shift: int
    flip: bool

    def split(self, seed: int = 1337, fraction: float = 0.1) -> Split:
        """Set `fraction` of each class aside for validation, at least one image of each class that has two.

        Images that are equal pixel by pixel count once, so nothing validated on is trained on. Raises DataError where
        one side would be empty.
        """
        first: dict[bytes, int] = {}
        for place, image in enumerate(self.images.pixels):
            first.setdefault(image.tobytes(), place)
        distinct = self.images.take(np.array(list(first.values())))
        order = np.random.default_rng(seed).permutation(len(distinct))
        chosen = np.zeros(len(distinct), dtype=bool)
        for label in range(len(self.classes)):
            members = order[distinct.labels[order] == label]
            chosen[members[: max(round(fraction * len(members)), len(members) > 1)]] = True
        if not chosen.any() or chosen.all():
            raise DataError(f"{self.name} is too small to be split: {len(distinct)} distinct images; choose more data")
        name = f"by image in each class, seed {seed}, {100 - 100 * fraction:g}/{100 * fraction:g}"
        return Split(distinct.take(np.flatnonzero(~chosen)), distinct.take(np.flatnonzero(chosen)), name)


@dataclass(frozen=True)
class Form:
    """What a classifier reads and answers: a run keeps it, so that an image file can be read as in training.

    size: pixels, height and width; mean, deviation: of each channel's values in the training images, from 0 to 1; a
    deviation of 0 is kept as 1.
    """

    classes: tuple[str, ...]
    size: int
    channels: int
    mean: tuple[float, ...]
    deviation: tuple[float, ...]

    @classmethod
    def of(cls, classes: tuple[str, ...], images: Images) -> "Form":
        """The form of these images. Raises DataError where all are of one colour."""
        channels = images.pixels.reshape(-1, images.pixels.shape[-1]).T  # (C, N H W)
        values, means, deviations = np.arange(256), [], []
        for channel in channels:
            shares = np.bincount(channel, minlength=256) / len(channel)
            mean = shares @ values
            means.append(float(mean / 255))
            deviations.append(float(np.sqrt(shares @ np.square(values - mean)) / 255))
        if not any(deviations):
            raise DataError("all images are of one and the same colour: choose others")
        # a channel of one value says nothing, which numbers of 0 say: 1 in place of its deviation divides by no 0
        return cls(
            classes, images.pixels.shape[1], len(channels), tuple(means), tuple(each or 1.0 for each in deviations)
        )

    def numbers(self, pixels: np.ndarray) -> np.ndarray:
        """(N, H, W, C) uint8 -> (N, C, H, W) float32, each channel of mean 0 and deviation 1 in the training images."""
        # values from 0 to 255 by a table: no arithmetic on every pixel
        table = (np.arange(256)[:, None] / 255 - self.mean) / np.array(self.deviation)  # (256, C)
        x = table.astype(np.float32)[pixels, np.arange(self.channels)]  # (N, H, W, C)
        return x.transpose(0, 3, 1, 2)  # channels stay side by side in memory, where convolutions read them fastest

    def read(self, path: str | Path) -> np.ndarray:
        """An image file as pixels (H, W, C) of this form. Raises DataError where it is none."""
        return _pixels(_opened(read_bytes(path), path), self.size, self.channels)

    def to_dict(self) -> dict[str, Any]:
        return {"format": 1, "kind": "images", **asdict(self)}

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> "Form":
        """What `to_dict()` gave. Raises DataError where it is something else."""
        try:
            if (content["format"], content["kind"]) != (1, "images"):
                raise ValueError("need format 1 and kind 'images'")
            classes, size, channels, *scale = (content[name] for name in cls.__dataclass_fields__)
            mean, deviation = (tuple(map(float, values)) for values in scale)
            if not (len(mean) == len(deviation) == channels in (1, 3) and min(deviation) > 0 and size >= 1):
                raise ValueError("the values do not go together")
            return cls(tuple(map(str, classes)), int(size), channels, mean, deviation)
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"this is not the form of images ({error}), got {str(content)[:80]!r}") from error


def load_form(path: str | Path) -> Form:
    """The form in a JSON file, such as a run's images.json. Raises DataError, with the file's name."""
    raw = read_bytes(path)
    try:
        return Form.from_dict(json.loads(raw))
    except ValueError as error:
        raise DataError(f"{path} is not JSON: {error}") from error
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


class Shown:
    """Images as a training loop reads them: each once an epoch, shifted and mirrored at random where that is asked for.

    shift: up to so many pixels in both directions; what comes in from outside repeats the edge. flip: half of the
    images, mirrored. `whole` shows them as they are.
    """

    n_cut = 0

    def __init__(self, images: Images, form: Form, shift: int = 0, flip: bool = False):
        self.images = images
        self.form = form
        self.shift = shift
        self.flip = flip
        self.n_items = self.n_targets = len(images)

    def batch(self, step: int, batch_size: int, seed: int) -> Batch:
        """The batch of a training step (from 0): a pure function of its arguments, so a resumed run needs no state."""
        images = self.images.take(items(step, batch_size, self.n_items, seed))
        rng = np.random.default_rng((seed, step, 0))  # three numbers: another stream than that of an epoch's order
        n, height, width, _ = images.pixels.shape
        down, right = rng.integers(-self.shift, self.shift + 1, (2, n, 1))
        rows = np.clip(np.arange(height) - down, 0, height - 1)  # (N, H): where each row comes from
        columns = np.clip(np.arange(width) - right, 0, width - 1)  # (N, W)
        if self.flip:
            columns = np.where(rng.random((n, 1)) < 0.5, columns, width - 1 - columns)
        pixels = images.pixels[np.arange(n)[:, None, None], rows[:, :, None], columns[:, None, :]]
        return self._batch(pixels, images.labels)

    def whole(self, batch_size: int) -> Iterator[Batch]:
        """Every image exactly once, in order."""
        for i in range(0, self.n_items, batch_size):
            yield self._batch(self.images.pixels[i : i + batch_size], self.images.labels[i : i + batch_size])

    def _batch(self, pixels: np.ndarray, labels: np.ndarray) -> Batch:
        return Batch((self.form.numbers(pixels),), labels, len(labels))


def read(
    name_or_path: str | Path, size: int | None = None, part: str = "train", channels: int | None = None
) -> ImageSet:
    """One part of the data set of that name, or of a folder of image files, a sub-folder for each class.

    size: height and width to bring the images to; None: their own, of a folder FOLDER_SIZE. part: "train" or "test";
    a folder has both where its sub-folders are train/ and test/, with the classes below. channels: of the images of a
    folder, 1 or 3; None: 3 where one of them has colours. Raises DataError.
    """
    if size is not None and not 1 <= size <= 1024:
        raise DataError(f"size must be from 1 to 1024 pixels, got {size}")
    known = sets.known(str(name_or_path))
    if known is None:
        return _folder(Path(os.path.expanduser(name_or_path)), size or FOLDER_SIZE, part, channels)
    if known.unit != "image":
        holds = "pairs of texts" if known.unit == "pair" else "text"
        raise DataError(
            f"{known.name} holds {holds}, and this needs images: choose {sets.names('image')}, or a folder of images"
        )
    images, classes, sha256, origin = {"digits": _digits, "cifar10-jpg": _cifar}.get(known.name, _idx)(known.name, part)
    if size is not None and size != images.pixels.shape[1]:
        images = Images(_resized(images.pixels, size), images.labels)
    shift, flip = AUGMENT[known.name]
    return ImageSet(known.name, images, classes, sha256, False, known.licence, origin, known.name, shift, flip)


def _digits(name: str, part: str) -> tuple[Images, tuple[str, ...], str, str]:
    """scikit-learn's embedded set. The last fifth is the test."""
    import sklearn
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)  # 0 to 16, (1797, 64)
    pixels = np.round(pixels * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8, 1)
    chosen = slice(-DIGITS_TEST, None) if part == "test" else slice(-DIGITS_TEST)
    images = Images(pixels[chosen], labels[chosen].astype(np.int64))
    return images, NAMES[name], _sha256([images.pixels, images.labels]), f"scikit-learn {sklearn.__version__}"


def _idx(name: str, part: str) -> tuple[Images, tuple[str, ...], str, str]:
    """A set in MNIST's form: gzip files of a header and bytes. Source: yann.lecun.com/exdb/mnist, "File formats"."""
    nth = 2 if part == "test" else 0
    pixels, labels = sets.find(name, nth), sets.find(name, nth + 1)
    values = np.frombuffer(gzip.decompress(pixels.read_bytes()), np.uint8, offset=16).reshape(-1, 28, 28, 1)
    answers = np.frombuffer(gzip.decompress(labels.read_bytes()), np.uint8, offset=8).astype(np.int64)
    return Images(values, answers), NAMES[name], _sha256([values, answers]), str(pixels)


def _cifar(name: str, part: str) -> tuple[Images, tuple[str, ...], str, str]:
    """A tar of cifar10/{train,test}/CLASS/NNNN.jpg. Decoded once, then kept in the user's cache as arrays."""
    path = sets.find(name)
    cache = paths.cache() / "data" / name / f"{part}.npz"
    sha256 = sets.known(name).files[0].sha256
    if cache.is_file():
        with np.load(cache) as kept:
            if str(kept["sha256"]) == sha256:
                images = Images(kept["pixels"], kept["labels"])
                return images, tuple(kept["classes"].tolist()), sha256, str(path)
    found = []
    with tarfile.open(path) as archive:
        for member in archive:  # one pass: a gzip file cannot be read from the middle
            if member.isfile() and member.name.split("/")[1] == part:
                image = _opened(archive.extractfile(member).read(), member.name)
                found.append((member.name, _pixels(image, 32, 3)))
    found.sort(key=lambda each: each[0])
    names = [member.split("/")[2] for member, _ in found]
    classes = tuple(sorted(set(names)))
    images = Images(np.stack([each for _, each in found]), np.array([classes.index(name) for name in names]))
    cache.parent.mkdir(parents=True, exist_ok=True)
    file = io.BytesIO()
    np.savez(file, pixels=images.pixels, labels=images.labels, classes=np.array(classes), sha256=np.array(sha256))
    paths.atomic_write(cache, file.getvalue())
    return images, classes, sha256, str(path)


def _folder(path: Path, size: int, part: str, channels: int | None) -> ImageSet:
    if not os.path.isdir(path):
        what = "is no folder" if os.path.exists(path) else "is not there"
        raise DataError(
            f"{path} {what}: give a folder with a sub-folder of images for each class, or {sets.names('image')}"
        )
    folders = _folders(path)
    if {each.name for each in folders} in ({"train"}, {"train", "test"}):
        folders = _folders(path / part) if (path / part).is_dir() else []
    elif part == "test":
        folders = []
    if part == "test" and not folders:
        raise DataError(f"{path} has no part for a test: make it train/ and test/, with a sub-folder for each class")
    classes, found, labels, skipped, colours = [], [], [], 0, False
    digest = hashlib.sha256()
    for folder in folders:
        before = len(found)
        for file in sorted(each for each in folder.rglob("*") if each.is_file() and not each.name.startswith(".")):
            if file.suffix.lower() not in SUFFIXES:
                skipped += 1
                continue
            raw = read_bytes(file)
            try:
                image = _opened(raw, file)
            except DataError:
                skipped += 1
                continue
            digest.update(file.relative_to(path).as_posix().encode() + b"\0" + raw)
            colours |= image.mode not in GREY
            found.append(_pixels(image, size, channels or 3))  # small at once: a folder of photographs fills any memory
            labels.append(len(classes))
        if len(found) > before:
            classes.append(folder.name)
    if len(classes) < 2:
        raise DataError(
            f"{path} holds PNG or JPEG images of {len(classes)} classes: it takes two sub-folders or more, "
            f"named by their classes ({skipped} files are no such images)"
        )
    pixels = np.stack(found)[..., : channels or (3 if colours else 1)]
    origin = f"{path}, {len(found)} images" + (f", {skipped} left out (no PNG or JPEG)" if skipped else "")
    images = Images(pixels, np.array(labels))
    source = str(path.resolve())
    unknown = "not known: it is yours to know"
    return ImageSet(
        path.resolve().stem, images, tuple(classes), digest.hexdigest(), True, unknown, origin, source, 2, False
    )


def _folders(path: Path) -> list[Path]:
    """The folders in a folder, by name, hidden ones left out."""
    return sorted(each for each in path.iterdir() if each.is_dir() and not each.name.startswith("."))


def _opened(raw: bytes, path: Any) -> Any:
    """A Pillow image of a file's bytes, upright and decoded. Raises DataError where they are none."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what surrounds the picture, such as a damaged Exif
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(raw), formats=FORMATS)
            return ImageOps.exif_transpose(image)
    except UnidentifiedImageError:
        raise DataError(f"{path} is no PNG or JPEG image: choose one") from None
    except (*DAMAGED, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(f"cannot read {path}: {' '.join(str(error).split())}") from error


def _pixels(image: Any, size: int, channels: int) -> np.ndarray:
    """A Pillow image -> (size, size, channels) uint8: its middle square, on white where it is transparent."""
    from PIL import Image, ImageOps

    if image.mode.startswith("I"):  # 16 bits a pixel: the upper 8
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        page = Image.new("RGBA", image.size, "white")
        page.alpha_composite(image.convert("RGBA"))
        image = page
    image = image.convert("L" if channels == 1 else "RGB")
    if image.size != (size, size):
        image = ImageOps.fit(image, (size, size), Image.Resampling.BOX)  # the mean of what a pixel covers
    return np.asarray(image).reshape(size, size, channels)


def _resized(pixels: np.ndarray, size: int) -> np.ndarray:
    """(N, H, W, C) -> (N, size, size, C)."""
    from PIL import Image

    channels = pixels.shape[-1]
    planes = [Image.fromarray(image[..., 0] if channels == 1 else image) for image in pixels]
    return np.stack([_pixels(image, size, channels) for image in planes])


def _sha256(arrays: Iterable[np.ndarray]) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(array.tobytes())
    return digest.hexdigest()

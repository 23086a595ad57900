"""The data sets known by name: what they are, what one may do with them, where they are found, how they are fetched."""

import hashlib
import os
from dataclasses import dataclass, replace
from pathlib import Path

from kakehashi import paths
from kakehashi.data.errors import DataError
from kakehashi.texts import t

TIMEOUT = 30  # seconds without a byte until a download is given up


@dataclass(frozen=True)
class File:
    """A file of a data set. path: below a data folder; url: "" where no address is known that gives these bytes."""

    path: str
    sha256: str
    size: int
    url: str = ""


@dataclass(frozen=True)
class DataSet:
    """files: none for a set that is made on this machine. unit: how it is cut: "document", "stream", "image",
    "pair", "table".

    found: the first file on this machine, None where one of them is missing.
    """

    name: str
    unit: str
    licence: str
    files: tuple[File, ...] = ()
    found: Path | None = None

    @property
    def about(self) -> str:
        """What it is, in the language in use."""
        return t(f"data.{self.name}.about")

    @property
    def use(self) -> str:
        """What its licence allows, in the language in use."""
        return t(f"data.{self.name}.use")


_GITHUB = "https://raw.githubusercontent.com"
_ZALANDO = f"{_GITHUB}/zalandoresearch/fashion-mnist/b2617bb6d3ffa2e429640350f613e3291e10b141/data/fashion"
_POLYAI = f"{_GITHUB}/PolyAI-LDN/task-specific-datasets/57ec275d8078af65b7731c2a98be812d844a6d6b/banking_data"
_IDX = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)


def _idx(folder: str, url: str, *known: tuple[str, int]) -> tuple[File, ...]:
    """The four files of a set in MNIST's form; known: (sha256, size) of each."""
    return tuple(
        File(f"{folder}/{name}", sha256, size, url and f"{url}/{name}")
        for name, (sha256, size) in zip(_IDX, known, strict=True)
    )


def _multi30k(*known: tuple[str, str, int]) -> tuple[File, ...]:
    """known: (name, sha256, size) of each file."""
    url = f"{_GITHUB}/multi30k/dataset/a3d2e0d26b56f3846f66a952536ffed4e401d05a/data/task1/raw"
    return tuple(File(f"multi30k-de-en/{name}.gz", sha256, size, f"{url}/{name}.gz") for name, sha256, size in known)


_SETS = (
    DataSet("identifiers", "document", licence="PSF-2.0"),
    DataSet("stdlib-code", "stream", licence="PSF-2.0"),
    DataSet(
        "names",
        "document",
        licence="MIT",
        files=(
            File(
                "names/names.txt",
                sha256="0a30b5557f192f32ab962680889aac5f6fda0f4cecf40a6d0b5694f58ea8cc4d",
                size=228_145,
                url=f"{_GITHUB}/karpathy/makemore/988aa59e4d8fefa526d06f3b453ad116258398d4/names.txt",
            ),
        ),
    ),
    DataSet(
        "tinyshakespeare",
        "stream",
        licence="public domain (the text); MIT by char-rnn's Readme (the file)",
        files=(
            File(
                "tinyshakespeare/input.txt",
                sha256="86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
                size=1_115_394,
                url=f"{_GITHUB}/karpathy/char-rnn/6f9487a6fe5b420b7ca9afb0d7c078e37c1d1b4e/data/tinyshakespeare/input.txt",
            ),
        ),
    ),
    DataSet("dates", "pair", licence="MIT"),
    DataSet(
        "multi30k",
        "pair",
        licence="none stated",
        files=_multi30k(
            ("train.de", "726e39b2fa9eb9ffb6dc763fb35a179f80fae06ffc5d28b6ace5faa883de28a6", 637_044),
            ("train.en", "d79cfa999dd4c51d2cb42499b6796d5a882c3a8a961923c25a898c90f8bbd56f", 568_929),
            ("val.de", "f0cba2f995189cf5770f29a8a9a537a3ad3f51657ad873405082ff6863a5e75a", 24_681),
            ("val.en", "14f7d25ddd868909a9213e361768460edcacdd6ab9d1e77b92560dc10c10dc28", 21_650),
            ("test_2016_flickr.de", "9204244e408ccb38d2a55cfcd344df15005fc42a07a6e55ca6c52b6ababb8cc8", 22_890),
            ("test_2016_flickr.en", "611d361c6334bc7246101d48097c13cf5c4413c5befc793cc629934359d532d9", 21_077),
        ),
    ),
    DataSet("digits", "image", licence="BSD-3-Clause (scikit-learn); CC BY 4.0 (the UCI set it is a part of)"),
    DataSet(
        "mnist",
        "image",
        licence="MIT by rasbt/mnist-pngs (the copy)",
        files=_idx(
            "mnist",
            "",
            ("0b367032e93c5d0cea0925647cfdb18614af8ee15f83e6f2fc2ad904a6835971", 9_719_438),
            ("1787548bbe0bff1ec2ecdc0ef292b02df999e2d1a6002d27500982c652b17203", 28_857),
            ("1a1a05eab793c14bb050b398624a11b0ffd1a2953baed553b1b9bd079e2a20be", 1_616_508),
            ("b91679a0acfe4ba0e50a2437a903084cba1f5f92592b016a25a7dfd00455798b", 4_517),
        ),
    ),
    DataSet(
        "fashion-mnist",
        "image",
        licence="MIT",
        files=_idx(
            "fashion-mnist",
            _ZALANDO,
            ("3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84", 26_421_880),
            ("a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845", 29_515),
            ("346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073", 4_422_102),
            ("67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5", 5_148),
        ),
    ),
    DataSet(
        "cifar10-jpg",
        "image",
        licence="none stated",
        files=(
            File(
                "cifar10-jpg/cifar10-jpg.tar.gz",
                sha256="b432108d5eaba587c3480bc5a69575d60f74ce8755901810e662ffc470bc9fd5",
                size=19_430_214,
            ),
        ),
    ),
    DataSet(
        "banking77",
        "table",
        licence="CC BY 4.0",
        files=(
            File(
                "banking77/train.csv",
                sha256="b06e26ac675513959a63135f11b94ea7786ed02da65db93a5650d8838cbc664b",
                size=839_073,
                url=f"{_POLYAI}/train.csv",
            ),
            File(
                "banking77/test.csv",
                sha256="d12d6e3bc4c3103966ae786dc435913c0c563dfa328f5a3646d0e62cfeeb474d",
                size=239_961,
                url=f"{_POLYAI}/test.csv",
            ),
        ),
    ),
    DataSet(
        "clinc150",
        "table",
        licence="CC BY 3.0",
        files=(
            File(
                "clinc150/data_full.json",
                sha256="36923c3705a59e08fe9c3883d8bc2dd966ef93e22cb78ac41171782a698d56e0",
                size=2_495_390,
                url=f"{_GITHUB}/clinc/oos-eval/828f8093932c8fe6ca7936c3d2e52903b1c523de/data/data_full.json",
            ),
        ),
    ),
)


def catalogue() -> list[DataSet]:
    """The data sets that have a name, with where each is found on this machine."""
    return [replace(known, found=_found(known)) for known in _SETS]


def known(name: str) -> DataSet | None:
    """The data set of this name, if there is one."""
    return next((each for each in _SETS if each.name == name), None)


def names(*units: str) -> str:
    """The names of the data sets that are cut into one of these units, in one line."""
    return ", ".join(each.name for each in _SETS if each.unit in units)


def unit_of(name_or_path: str | Path) -> str:
    """How data are cut where nobody says it: a known set's own unit, "pair" of a FILE.tsv, else "stream"."""
    if each := known(str(name_or_path)):
        return each.unit
    return "pair" if Path(name_or_path).suffix.lower() == ".tsv" else "stream"


def find(name: str, nth: int = 0) -> Path:
    """The nth file of a data set, looked for in $KAKEHASHI_DATA, ./data and the user's cache, its sha256 checked.

    Raises DataError: no such name, a set without a file, not on this machine, other content than the one known here.
    """
    each = _with_files(name)
    file = each.files[nth]
    path = _search(file)
    if path is None:
        fetched = (
            f"fetch it ({_size(each):,} bytes, licence: {each.licence}) with `kakehashi data get {name}`, or "
            if file.url
            else ""
        )
        raise DataError(
            f"{name} is not on this machine: {fetched}"
            f"put it at {file.path} in ./data or in a folder that $KAKEHASHI_DATA names"
        )
    try:
        seen = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    if seen != file.sha256:
        raise DataError(
            f"{path} is not the {name} known here (sha256 {seen[:12]}..., expected {file.sha256[:12]}...): "
            f"move it away, or use it by its path"
        )
    return path


def get(name: str) -> Path:
    """Fetch a data set into the user's cache, each file whole or not at all, unless it is found. Returns the first.

    Proxies are respected. Raises DataError (no such name, KAKEHASHI_OFFLINE, no address, no connection, refused, cut
    short, wrong sha256) or paths.CannotWrite.
    """
    each = _with_files(name)
    for nth, file in enumerate(each.files):
        if _search(file) or not file.url:
            find(name, nth)
            continue
        target = paths.cache() / "data" / file.path
        raw = _download(name, file)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataError(f"cannot make {target.parent}: {error.strerror or error}") from error
        paths.atomic_write(target, raw)
    return find(name)


def _with_files(name: str) -> DataSet:
    if (each := known(name)) is None:
        raise DataError(f"there is no data set {name!r}: known are {', '.join(each.name for each in _SETS)}")
    if not each.files:
        makers = {"image": "scikit-learn", "pair": "Kakehashi's own rules"}
        maker = makers.get(each.unit, "this Python's standard library")
        raise DataError(f"{name} has no file: it is made from {maker}, just use it by its name")
    return each


def _size(each: DataSet) -> int:
    return sum(file.size for file in each.files)


def _found(each: DataSet) -> Path | None:
    places = [_search(file) for file in each.files]
    return places[0] if places and all(places) else None


def _search(file: File) -> Path | None:
    folders = [Path("data"), paths.cache() / "data"]
    if stated := os.environ.get("KAKEHASHI_DATA"):
        folders.insert(0, Path(os.path.expanduser(stated)))
    return next((folder / file.path for folder in folders if os.path.isfile(folder / file.path)), None)


def _download(name: str, each: File) -> bytes:
    """The bytes at a file's URL, if they are the ones known."""
    if os.environ.get("KAKEHASHI_OFFLINE", "0") not in ("", "0"):
        raise DataError(
            f"{name} is not fetched, for KAKEHASHI_OFFLINE is set: unset it, or bring {each.url} "
            f"to {each.path} in ./data by hand"
        )
    from http.client import HTTPException, IncompleteRead
    from urllib.error import HTTPError
    from urllib.request import build_opener

    by_hand = f"try again, or bring it to {each.path} in ./data by hand"
    try:
        with build_opener().open(each.url, timeout=TIMEOUT) as response:  # urlopen would keep its first proxies
            raw = response.read()
    except HTTPError as error:
        raise DataError(f"{each.url} answers {error.code} {error.reason}: {by_hand}") from error
    except IncompleteRead as error:
        raise DataError(
            f"{each.url} was cut off after {len(error.partial):,} of {each.size:,} bytes: {by_hand}"
        ) from error
    except (OSError, HTTPException) as error:
        raise DataError(f"cannot fetch {each.url} ({getattr(error, 'reason', None) or error}): {by_hand}") from error
    if (seen := hashlib.sha256(raw).hexdigest()) != each.sha256:
        raise DataError(
            f"{each.url} gave other bytes than expected (sha256 {seen[:12]}..., expected {each.sha256[:12]}...), "
            f"nothing was kept: a proxy may have answered in its place"
        )
    return raw

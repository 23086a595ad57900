"""Data sets by name: where they are found, how they are fetched, and that a failed download leaves nothing behind."""

import functools
import hashlib
import http.server
import os
import socket
import threading
from pathlib import Path

import pytest

from kakehashi import data, paths
from kakehashi.data import sets

CONTENT = b"anna\nbob\ncarla\n" * 5000


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        name = self.path.rsplit("/", 1)[-1]
        self.server.asked.append(self.path)
        if name == "missing":
            return self.send_error(404)
        if name == "stalled":
            return self.server.release.wait(10)
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write({"cut": CONTENT[:30000], "wrong": CONTENT[::-1]}.get(name, CONTENT))

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.asked, server.release = [], threading.Event()
        thread = threading.Thread(target=functools.partial(server.serve_forever, poll_interval=0.01))
        thread.start()
        yield server
        server.release.set()
        server.shutdown()
        thread.join()


@pytest.fixture
def place(server, monkeypatch, tmp_path):
    """place(url=None) makes "small" a known data set; nothing of the machine's own data or proxies is seen."""
    for name in ("KAKEHASHI_DATA", "KAKEHASHI_OFFLINE", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("KAKEHASHI_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    server.asked.clear()

    def known(name="names.txt", url=None):
        url = url or f"http://127.0.0.1:{server.server_port}/{name}"
        small = sets.DataSet(
            "small",
            "document",
            licence="CC0",
            files=(sets.File("small/names.txt", hashlib.sha256(CONTENT).hexdigest(), len(CONTENT), url),),
        )
        monkeypatch.setattr(sets, "_SETS", (small,))

    known()
    return known


def refused(*words):
    with pytest.raises(data.DataError) as caught:
        data.get("small")
    assert "\n" not in str(caught.value) and all(word in str(caught.value) for word in words), str(caught.value)
    assert [path for path in Path().rglob("*") if path.is_file()] == []


def put(folder, content=CONTENT):
    path = Path(folder, "small", "names.txt")
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    return path


def test_a_fetched_set_is_found_checked_and_not_fetched_again(place, server):
    path = data.get("small")
    assert path == paths.cache() / "data" / "small" / "names.txt" and path.read_bytes() == CONTENT
    assert data.get("small") == data.find("small") == path and server.asked == ["/names.txt"]
    corpus = data.corpus("small")
    assert (len(corpus.documents), corpus.private, corpus.licence) == (15000, False, "CC0")


def test_the_stated_folder_comes_before_data_here_before_the_cache(place, monkeypatch, tmp_path):
    for folder in (paths.cache() / "data", tmp_path / "data", tmp_path / "stated"):
        monkeypatch.setenv("KAKEHASHI_DATA", str(tmp_path / "stated"))
        path = put(folder)
        assert data.find("small").resolve() == path
        assert [each.found.resolve() for each in data.catalogue()] == [path]


def test_what_is_not_here_says_how_to_get_it_and_what_it_may_be_used_for(place):
    with pytest.raises(data.DataError, match=r"75,000 bytes, licence: CC0.*kakehashi data get small.*KAKEHASHI_DATA"):
        data.corpus("small")
    with pytest.raises(data.DataError, match="no data set 'large': known are small"):
        data.find("large")
    assert [(each.licence, each.found) for each in data.catalogue()] == [("CC0", None)]


def test_a_file_of_other_content_does_not_pass_for_the_set(place):
    put("data", b"my customers\n")
    for call in (data.corpus, data.find, data.get):
        with pytest.raises(data.DataError, match=r"is not the small known here \(sha256"):
            call("small")


def test_a_cut_connection(place):
    place("cut")
    refused("cut off after 30,000 of 75,000 bytes")


def test_other_bytes_than_expected(place):
    place("wrong")
    refused("other bytes than expected", "proxy")


def test_a_missing_file(place):
    place("missing")
    refused("404", "by hand")


def test_a_server_that_says_nothing(place, monkeypatch):
    monkeypatch.setattr(sets, "TIMEOUT", 0.1)
    place("stalled")
    refused("cannot fetch", "timed out")


def test_no_server(place):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound but not listening: refused
        place(url=f"http://127.0.0.1:{taken.getsockname()[1]}/names.txt")
        refused("cannot fetch", "refused")


def test_offline_opens_no_socket(place, monkeypatch):
    monkeypatch.setenv("KAKEHASHI_OFFLINE", "1")
    monkeypatch.setattr(socket, "socket", None)
    monkeypatch.setattr(socket, "getaddrinfo", None)
    refused("KAKEHASHI_OFFLINE", "small/names.txt")


def test_a_proxy_is_asked(place, server, monkeypatch):
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("no_proxy", "")
    place(url="http://data.example/names.txt")
    data.get("small")
    assert server.asked == ["http://data.example/names.txt"]


def test_no_room_for_the_file(place):
    resource = pytest.importorskip("resource", reason="only where files can be limited in size")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        with pytest.raises(paths.CannotWrite):
            data.get("small")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [path for path in Path().rglob("*") if path.is_file()] == []


def test_nowhere_to_put_the_file(place, monkeypatch, tmp_path):
    (tmp_path / "home").write_text("a file, not a folder", encoding="utf-8")
    with pytest.raises(data.DataError, match="cannot make"):
        data.get("small")


def test_an_embedded_set_has_no_file(monkeypatch):
    with pytest.raises(data.DataError, match="identifiers has no file: it is made from"):
        data.find("identifiers")


def test_the_catalogue_names_a_fixed_version_a_hash_a_licence_and_a_use(data_dir):
    known = data.catalogue()
    made, by_hand = ("identifiers", "stdlib-code", "digits", "dates"), ("mnist", "cifar10-jpg")
    assert {*made, *by_hand, "names", "tinyshakespeare", "fashion-mnist", "multi30k"} <= {each.name for each in known}
    assert all(each.licence and each.use and each.about for each in known)
    for each in known:
        assert (each.name in made) == (each.files == ())
        for nth, file in enumerate(each.files):
            assert len(file.sha256) == 64 and (file.url.startswith("https://") or each.name in by_hand)
            assert os.path.getsize(data.find(each.name, nth)) == file.size
        assert not each.files or each.found == data.find(each.name)


def test_a_set_of_several_files_is_fetched_file_by_file(place, server, monkeypatch):
    url = f"http://127.0.0.1:{server.server_port}"
    files = [
        sets.File(f"two/{name}", hashlib.sha256(CONTENT).hexdigest(), len(CONTENT), f"{url}/{name}") for name in "ab"
    ]
    monkeypatch.setattr(sets, "_SETS", (sets.DataSet("two", "document", "CC0", tuple(files)),))
    put_one = paths.cache() / "data" / "two" / "a"
    put_one.parent.mkdir(parents=True)
    put_one.write_bytes(CONTENT)
    assert data.catalogue()[0].found is None  # one of them is missing
    assert data.get("two") == put_one and server.asked == ["/b"]
    assert data.find("two", 1).read_bytes() == CONTENT and data.catalogue()[0].found == put_one
    by_hand = sets.File("two/c", "0" * 64, 1)
    monkeypatch.setattr(sets, "_SETS", (sets.DataSet("two", "document", "CC0", (*files, by_hand)),))
    with pytest.raises(data.DataError, match="two is not on this machine: put it at two/c in ./data"):
        data.get("two")

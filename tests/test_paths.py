"""Where things lie, and that a file is written whole or not at all: on real full and read-only disks, too."""

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from kakehashi import paths


def leftovers(folder: Path) -> list[Path]:
    return list(folder.glob(paths.TEMPORARY))


@pytest.mark.parametrize("kind", ["cache", "data", "config"])
def test_kakehashi_home_holds_every_user_folder(kind, tmp_path, monkeypatch):
    ours = getattr(paths, kind)
    monkeypatch.delenv("KAKEHASHI_HOME", raising=False)
    assert "kakehashi" in str(ours())
    monkeypatch.setenv("KAKEHASHI_HOME", str(tmp_path))
    assert ours() == tmp_path / kind


def test_the_workspace_is_the_nearest_folder_upwards_with_its_file(tmp_path, monkeypatch):
    outer, inner = tmp_path / "outer", tmp_path / "outer" / "a" / "inner"
    deep = inner / "b" / "c"
    deep.mkdir(parents=True)
    assert paths.workspace(deep) is None
    (outer / "kakehashi.toml").write_text("", encoding="utf-8")
    assert paths.workspace(deep) == outer
    (inner / "kakehashi.toml").write_text("", encoding="utf-8")
    assert paths.workspace(deep) == inner
    monkeypatch.chdir(deep)
    assert paths.workspace() == inner


@pytest.mark.parametrize("content", [b"\x00\r\n\xff", "架け橋\r\nx\n", "", b"x" * 3_000_000])
def test_what_is_written_is_what_is_read(content, tmp_path):
    path = tmp_path / "重み.bin"
    for _ in range(2):  # new, then replaced
        paths.atomic_write(path, content)
        assert path.read_bytes() == (content.encode("utf-8") if isinstance(content, str) else content)
    assert leftovers(tmp_path) == []


@pytest.mark.skipif(os.name == "nt", reason="only POSIX has such modes and links")
def test_links_are_written_through_and_modes_stay(tmp_path):
    secret, link, new = tmp_path / "secret", tmp_path / "link", tmp_path / "new"
    secret.write_text("old", encoding="utf-8")
    secret.chmod(0o600)
    link.symlink_to(secret)
    paths.atomic_write(link, "new")
    assert link.is_symlink() and secret.read_text(encoding="utf-8") == "new"
    assert secret.stat().st_mode & 0o777 == 0o600
    old = os.umask(0o027)
    try:
        paths.atomic_write(new, "")
    finally:
        os.umask(old)
    assert new.stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("call", ["open", "fsync", "replace"])
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_a_failure_at_any_step_leaves_the_old_file_and_nothing_else(call, error, tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_text("old", encoding="utf-8")

    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(paths.CannotWrite if isinstance(error, OSError) else KeyboardInterrupt) as caught:
        paths.atomic_write(path, "new")
    monkeypatch.undo()
    assert path.read_text(encoding="utf-8") == "old" and leftovers(tmp_path) == []
    if isinstance(error, OSError):
        assert str(path) in str(caught.value) and "free some space" in str(caught.value)


def test_a_place_that_cannot_be_written_is_one_clear_line(tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    for path, advice in (
        (tmp_path / "missing" / "x", "make its folder first"),
        (tmp_path / "file" / "x", "a part of this path is a file"),
        (tmp_path, "it is a folder"),
        (tmp_path / ("x" * 300), "choose a shorter name"),
    ):
        with pytest.raises(paths.CannotWrite) as caught:
            paths.atomic_write(path, "x")
        message = str(caught.value)
        assert str(path) in message and advice in message and "\n" not in message
    assert leftovers(tmp_path) == [] and leftovers(tmp_path.parent) == []


def test_a_write_protected_file_is_not_replaced(tmp_path):
    path = tmp_path / "kept"
    path.write_text("old", encoding="utf-8")
    path.chmod(0o400)
    is_root = hasattr(os, "geteuid") and os.geteuid() == 0  # root without its capabilities obeys modes
    powerless = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if is_root else []
    script = "import sys; from kakehashi import paths; paths.atomic_write(sys.argv[1], 'new')"
    done = run([*powerless, sys.executable, "-c", script, str(path)])
    assert f"CannotWrite: cannot write {path}: Permission denied" in done.stderr
    assert path.read_text(encoding="utf-8") == "old" and os.listdir(tmp_path) == ["kept"]


def run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, encoding="utf-8", check=False)


def can_mount() -> bool:
    if not shutil.which("unshare"):
        return False
    trial = "mount -t tmpfs -o size=64k none /mnt"
    return run(["unshare", "-rm", "sh", "-c", trial]).returncode == 0


@pytest.mark.parametrize(
    ("mount", "message"),
    [
        ("size=64k", "cannot write file: No space left on device; free some space"),
        ("ro", "cannot write file: Read-only file system; choose a place that is not read-only"),
    ],
)
def test_a_really_full_and_a_really_read_only_disk(mount, message, tmp_path):
    if not can_mount():
        pytest.skip("only where a user namespace may mount")
    script = """
import os
from kakehashi import paths
try:
    paths.atomic_write("file", "old")
    paths.atomic_write("file", bytes(1_000_000))
except paths.CannotWrite as error:
    print(error)
print([open(name, encoding="utf-8").read() for name in os.listdir()])
"""
    command = f"mount -t tmpfs -o {mount} none {tmp_path} && cd {tmp_path} && exec {sys.executable} -c '{script}'"
    done = run(["unshare", "-rm", "sh", "-c", command])
    assert done.stdout.splitlines() == [message, "['old']" if mount != "ro" else "[]"], done.stderr

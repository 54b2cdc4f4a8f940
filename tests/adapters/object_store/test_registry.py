"""Which store a URL means, what a folder does about its disk, and what the probe finds out."""

import errno
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tasks.adapters.object_store.folder_store import FolderStore
from tasks.adapters.object_store.key_rules import TEMPORARY
from tasks.adapters.object_store.memory_store import MemoryStore
from tasks.adapters.object_store.os_errors import disk_error
from tasks.adapters.object_store.registry import open_store, probe_store
from tasks.adapters.object_store.s3_store import S3Store
from tasks.domain.errors import BadInput, Permanent, Transient
from tasks.domain.ports import StoredObject
from tests.servers.s3 import S3Bucket


def test_a_path_is_a_folder_and_its_url_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert open_store("./kitestring").url == str(tmp_path / "kitestring")
    assert open_store(f"file://{tmp_path}/a%20b").url == str(tmp_path / "a b")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert open_store("~/kept").url == str(tmp_path / "kept")


def test_opening_touches_nothing(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "not" / "yet"))
    assert list(store.list("")) == []
    assert store.read("a") is None
    assert list(tmp_path.iterdir()) == []


def test_s3_urls_name_bucket_and_prefix(s3_bucket: S3Bucket) -> None:
    assert open_store("s3://bucket").url == "s3://bucket"
    assert open_store("s3://bucket/a/b/").url == "s3://bucket/a/b"


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("gs://bucket/x", "use a folder or s3://bucket/prefix"),
        ("", "checkpoint is empty"),
        ("s3://", "not a bucket's name"),
        ("s3:///prefix", "not a bucket's name"),
        ("s3://AKIA:hidden@bucket/x", "put credentials in AWS_"),
        ("file://folder/x", "three slashes"),
    ],
)
def test_a_url_of_no_store_is_refused(url: str, words: str) -> None:
    with pytest.raises(BadInput, match=words) as caught:
        open_store(url)
    assert "hidden" not in str(caught.value)


def test_memory_of_one_name_is_one_store() -> None:
    open_store("memory://shared").write("a", b"x")
    assert open_store("memory://shared").read("a") == b"x"
    assert open_store("memory://other").read("a") is None


class Careless(MemoryStore):
    """A store that ignores If-None-Match, as some servers do."""

    def commit(self, key: str, data: bytes) -> bool:
        self.write(key, data)
        return True


class Forgetful(MemoryStore):
    """A store whose listings lag behind."""

    def list(self, prefix: str) -> Iterator[StoredObject]:
        return iter(())


@pytest.mark.parametrize(("kind", "words"), [(Careless, "two runs could both seal"), (Forgetful, "read-after-write consistency")])
def test_the_probe_finds_a_store_that_cannot_hold_a_checkpoint(kind: type[MemoryStore], words: str) -> None:
    store = kind(kind.__name__)
    with pytest.raises(BadInput, match=words):
        probe_store(store)
    assert list(MemoryStore(kind.__name__).list("")) == []


def test_the_probe_finds_an_s3_that_ignores_the_condition(s3_bucket: S3Bucket) -> None:
    store = S3Store(s3_bucket.name)
    store._connection.once.meta.events.register(
        "before-sign.s3.PutObject", lambda request, **_: request.headers.__delitem__("If-None-Match")
    )
    with pytest.raises(BadInput, match=r"conditional put \(If-None-Match: \*\) replaced"):
        probe_store(store)
    assert s3_bucket.keys() == []


@contextmanager
def as_ordinary_user(folder: Path) -> Iterator[None]:
    """Root may write anywhere: step down to nobody for a while. The way to the folder is opened for it."""
    if os.geteuid() != 0:
        yield
        return
    for above in [*folder.parents][:3]:
        if above.stat().st_uid == 0 and "pytest" in above.name:
            above.chmod(0o711)
    folder.chmod(0o711)
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.parametrize("folder", ["kept", "kept/below"])
def test_the_probe_finds_a_folder_that_cannot_be_written(tmp_path: Path, folder: str) -> None:
    (tmp_path / "kept").mkdir(mode=0o555)
    with as_ordinary_user(tmp_path), pytest.raises(BadInput, match="permission denied: let this user write there"):
        probe_store(open_store(str(tmp_path / folder)))


@pytest.mark.parametrize("folder", ["file", "file/below"])
def test_a_folder_that_is_a_file_is_refused(tmp_path: Path, folder: str) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(BadInput, match=f"checkpoint {tmp_path}/{folder} cannot be written: .*: correct `checkpoint`"):
        probe_store(open_store(str(tmp_path / folder)))


def test_files_get_the_folders_own_bits(tmp_path: Path) -> None:
    (tmp_path / "private").mkdir(mode=0o700)
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared").chmod(0o775)
    for name, bits in [("private", 0o600), ("shared", 0o664)]:
        FolderStore(tmp_path / name).write("a/b", b"x")
        FolderStore(tmp_path / name).commit("a/c", b"x")
        assert {stat.S_IMODE((tmp_path / name / "a" / leaf).stat().st_mode) for leaf in "bc"} == {bits}


def test_unfinished_files_are_not_listed_and_none_are_left(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    store.write("a/b", b"x")
    assert store.commit("a/b", b"y") is False
    (tmp_path / "a" / f"{TEMPORARY}torn").write_bytes(b"half")
    assert [found.key for found in store.list("")] == ["a/b"]
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == [f"{TEMPORARY}torn", "b"]


def test_a_file_whose_name_is_not_unicode_is_not_listed(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"\xff\xfe")).write_bytes(b"not ours")
    assert list(FolderStore(tmp_path).list("")) == []


def test_a_link_to_elsewhere_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "secret").write_text("x")
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "link").symlink_to(tmp_path / "out")
    assert list(FolderStore(tmp_path / "root").list("")) == []


FILL = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
from tasks.adapters.object_store.registry import open_store
from tasks.domain.errors import Permanent
store = open_store(sys.argv[1])
store.write("a", b"old")
for put in (store.write, store.commit):
    try:
        put("a" if put == store.write else "b", b"x" * 5000)
    except Permanent as error:
        print(error)
print([(f.key, f.size) for f in store.list("")], store.read("a"))
"""


def test_a_write_that_finds_no_room_changes_nothing(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", FILL, str(tmp_path)], capture_output=True, text=True, check=True, timeout=60)
    first, second, state = done.stdout.splitlines()
    assert first == f"{tmp_path}/a: file too large"
    assert second == f"{tmp_path}/b: file too large"
    assert state == "[('a', 3)] b'old'"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize(
    ("number", "leaf", "words"),
    [
        (errno.ENOSPC, Permanent, "no room left on the disk of /x: free some"),
        (errno.EDQUOT, Permanent, "no room left"),
        (errno.EACCES, BadInput, "/x: permission denied: let this user write there"),
        (errno.EROFS, BadInput, "/x: read-only file system"),
        (errno.EIO, Transient, "/x: input/output error"),
        (errno.ENAMETOOLONG, Permanent, "/x: file name too long"),
    ],
)
def test_a_refusal_of_the_system_is_told_with_path_and_cure(number: int, leaf: type[Exception], words: str) -> None:
    error = disk_error(OSError(number, os.strerror(number)), "/x")
    assert type(error) is leaf
    assert str(error).startswith(words)


def test_a_key_too_long_for_the_file_system_is_permanent(tmp_path: Path) -> None:
    with pytest.raises(Permanent, match="file name too long"):
        FolderStore(tmp_path).write("x" * 300, b"x")

"""One suite over every store: what `tasks.domain.ports.Store` promises."""

import secrets
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tasks.adapters.object_store.registry import open_store, probe_store
from tasks.domain.errors import Permanent
from tasks.domain.ports import Store

ODD = [
    "a b+c",
    "per%20cent",
    "quote'\"",
    "ümläut/日本語",
    "a/b&c=d#e?f",
    "<tag>",
    "{brace}",
    "semi;colon",
    "back\\slash",
    "~tilde@",
    "no\u00a0break",
]


@pytest.fixture(params=["folder", "file url", "memory", "s3", "s3 prefix"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    kind = request.param
    if kind.startswith("s3"):
        bucket = request.getfixturevalue("faulty_s3").bucket.name
        return open_store(f"s3://{bucket}" + ("/some/prefix/" if kind == "s3 prefix" else ""))
    urls = {"folder": str(tmp_path / "made later"), "file url": f"file://{tmp_path}/a%20b", "memory": f"memory://{secrets.token_hex(8)}"}
    return open_store(urls[kind])


def keys(store: Store, prefix: str = "") -> list[str]:
    return sorted(found.key for found in store.list(prefix))


def test_what_was_written_is_read(store: Store) -> None:
    store.write("a/b.json", b"one")
    assert store.read("a/b.json") == b"one"


def test_what_is_not_there_is_none(store: Store) -> None:
    store.write("a/b", b"one")
    assert store.read("a/c") is None
    assert store.read("a") is None
    assert store.read("a/b/c") is None
    assert store.read("x/y/z") is None


def test_write_replaces(store: Store) -> None:
    store.write("a", b"one")
    store.write("a", b"two, longer")
    assert store.read("a") == b"two, longer"
    assert [found.size for found in store.list("a")] == [11]


def test_a_file_is_written_whole(store: Store, tmp_path: Path) -> None:
    file = tmp_path / "part.parquet"
    file.write_bytes(secrets.token_bytes(3_000_001))
    store.write("deep/down/part", file)
    assert store.read("deep/down/part") == file.read_bytes()


def test_an_empty_object_is_an_object(store: Store) -> None:
    store.write("empty", b"")
    assert store.read("empty") == b""
    assert store.commit("empty", b"x") is False


def test_a_large_object_comes_back_byte_for_byte(store: Store) -> None:
    data = secrets.token_bytes(20 << 20)
    store.write("large", data)
    assert store.read("large") == data


def test_only_the_first_commit_counts(store: Store) -> None:
    assert store.commit("shards/x/seal.json", b"first") is True
    assert store.commit("shards/x/seal.json", b"second") is False
    assert store.read("shards/x/seal.json") == b"first"


def test_commit_respects_what_was_written(store: Store) -> None:
    store.write("a", b"written")
    assert store.commit("a", b"committed") is False
    assert store.read("a") == b"written"


def test_a_deleted_key_can_be_committed_again(store: Store) -> None:
    store.commit("a/b", b"one")
    store.delete("a/b")
    assert store.read("a/b") is None
    assert store.commit("a/b", b"two") is True


def test_of_twenty_racing_commits_one_wins_and_its_content_stands(store: Store) -> None:
    won: list[int] = []
    start = threading.Barrier(20)

    def race(number: int) -> None:
        start.wait()
        if store.commit("race/seal.json", b"%d" % number * 1000):
            won.append(number)

    threads = [threading.Thread(target=race, args=(n,)) for n in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert store.read("race/seal.json") == b"%d" % won[0] * 1000
    assert keys(store) == ["race/seal.json"]


def test_a_reader_never_sees_half_an_object(store: Store) -> None:
    versions = [bytes([n]) * 200_000 for n in range(8)]
    store.write("a", versions[0])
    writer = threading.Thread(target=lambda: [store.write("a", v) for v in versions])
    writer.start()
    while writer.is_alive():
        assert store.read("a") in versions
    writer.join()


def test_list_gives_what_begins_so(store: Store) -> None:
    for key in ["a/one", "a/two", "ab/three", "b/four", "a/deep/er/five"]:
        store.write(key, b"x")
    assert keys(store, "a/") == ["a/deep/er/five", "a/one", "a/two"]
    assert keys(store, "a") == ["a/deep/er/five", "a/one", "a/two", "ab/three"]
    assert keys(store, "a/t") == ["a/two"]
    assert keys(store, "none/") == []
    assert len(keys(store)) == 5


def test_list_tells_size_and_time(store: Store) -> None:
    before = time.time()
    store.write("a", b"12345")
    (found,) = store.list("")
    assert found.size == 5
    assert before - 5 < found.modified < time.time() + 5


def test_a_listing_of_more_than_one_page_is_complete(store: Store) -> None:
    names = [f"many/{n:04d}" for n in range(1_030)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: store.write(name, b""), names))
    assert keys(store, "many/") == names


def test_an_empty_store_lists_nothing(store: Store) -> None:
    assert keys(store) == []


def test_deleting_what_is_not_there_does_nothing(store: Store) -> None:
    store.delete("nothing/here")
    store.write("a/b", b"x")
    store.delete("a")
    store.delete("a/b")
    store.delete("a/b")
    assert keys(store) == []


def test_many_are_deleted_at_once_and_nothing_else(store: Store) -> None:
    names = [f"many/{n:04d}" for n in range(1_030)] + ODD
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: store.write(name, b""), [*names, "many/kept", "kept"]))
    store.delete_many(iter([*names, "never/there", names[0]]))
    assert keys(store) == ["kept", "many/kept"]
    store.delete_many([])
    store.delete_many(names)
    assert keys(store) == ["kept", "many/kept"]


def test_of_many_keys_one_that_is_no_key_is_refused_before_anything_is_gone(store: Store) -> None:
    store.write("a", b"x")
    with pytest.raises(Permanent, match="cannot be a key"):
        store.delete_many(["a", "../out"])
    assert keys(store) == ["a"]


@pytest.mark.parametrize("key", ODD)
def test_odd_characters_are_only_characters(store: Store, key: str) -> None:
    assert store.commit(key, b"odd")
    assert store.read(key) == b"odd"
    assert keys(store) == [key]
    store.delete(key)
    assert keys(store) == []


@pytest.mark.parametrize(
    "key", ["", "../out", "a/../../out", "/etc/passwd", "a//b", "a/", "./a", "a\0b", "line\nbreak", "x" * 1025, ".kitestring-tmp-x"]
)
def test_a_key_that_is_no_key_is_refused(store: Store, key: str, tmp_path: Path) -> None:
    for use in (store.read, store.delete, lambda k: store.write(k, b"x"), lambda k: store.commit(k, b"x")):
        with pytest.raises(Permanent, match="cannot be a key"):
            use(key)
    assert keys(store) == []


def test_the_url_opens_the_same_store(store: Store) -> None:
    store.write("a", b"x")
    assert open_store(store.url).read("a") == b"x"


def test_a_good_store_passes_the_probe_and_keeps_nothing_of_it(store: Store) -> None:
    probe_store(store)
    assert keys(store) == []

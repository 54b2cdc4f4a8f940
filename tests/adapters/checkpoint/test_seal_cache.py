"""A stream is read from its store once, and again only when its mark is another."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.adapters.checkpoint.seal_cache import StreamCache
from tasks.domain.errors import Permanent
from tasks.domain.shards.seal import Loaded


def entry(name: str) -> Loaded:
    return Loaded(shard=name, group="two\nlines", rows=1, seal="s", run="r", seconds=0.1, loaded_at="")


class Stored:
    """What is read, and how often that was asked for."""

    def __init__(self, *names: str) -> None:
        self.names, self.reads = names, 0

    def __call__(self) -> Iterator[Loaded]:
        self.reads += 1
        return map(entry, self.names)


def test_what_was_read_to_its_end_is_not_read_again(tmp_path: Path) -> None:
    copies, stored = StreamCache(tmp_path, Loaded), Stored("a", "b")
    for _ in range(3):
        assert list(copies.of("mark", stored)) == [entry("a"), entry("b")]
    assert stored.reads == 1


def test_another_mark_is_read_anew_and_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    copies = StreamCache(tmp_path, Loaded)
    list(copies.of("one", Stored("a")))
    assert list(copies.of("two", Stored("b", "c"))) == [entry("b"), entry("c")]
    assert list(copies.of("two", Stored())) == [entry("b"), entry("c")]
    assert len(list(tmp_path.iterdir())) == 1


def test_half_a_stream_leaves_no_copy(tmp_path: Path) -> None:
    copies, stored = StreamCache(tmp_path, Loaded), Stored("a", "b")
    half = copies.of("mark", stored)
    assert next(half) == entry("a")
    assert list(copies.of("mark", stored)) == [entry("a"), entry("b")]  # while the other one is still open
    assert next(half) == entry("b")
    assert list(copies.of("mark", stored)) == [entry("a"), entry("b")]
    assert stored.reads == 2


def test_without_scratch_every_stream_is_read(tmp_path: Path) -> None:
    copies, stored = StreamCache(None, Loaded), Stored("a")
    assert list(copies.of("mark", stored)) == list(copies.of("mark", stored)) == [entry("a")]
    assert stored.reads == 2


def test_an_error_on_the_way_is_that_of_the_reading(tmp_path: Path) -> None:
    def fails() -> Iterator[Loaded]:
        yield entry("a")
        raise Permanent("damaged")

    copies = StreamCache(tmp_path, Loaded)
    with pytest.raises(Permanent, match="damaged"):
        list(copies.of("mark", fails))
    assert list(copies.of("mark", Stored("b"))) == [entry("b")]

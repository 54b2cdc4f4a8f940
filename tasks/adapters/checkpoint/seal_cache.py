"""Caches a stream of a store's documents in private scratch for as long as the store's listing stays the same."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Generic, TypeVar

from tasks.adapters.object_store.os_errors import writing
from tasks.domain.strict import Strict

V = TypeVar("V", bound=Strict)


class StreamCache(Generic[V]):
    """The cached copy of one stream, on disk.

    Args:
        folder: private scratch for the copy; None disables the cache.
        kind: type of the documents.
    """

    def __init__(self, folder: Path | None, kind: type[V]) -> None:
        self._folder, self._kind = folder, kind
        self._copy: tuple[str, Path] | None = None

    def of(self, mark: str, read: Callable[[], Iterable[V]]) -> Iterator[V]:
        """Return the stream for this mark: the copy if it has the same mark, otherwise `read()`, copied on the way.

        A stream that is not consumed to its end leaves no copy.
        """
        if self._folder is None:
            return iter(read())
        if self._copy and self._copy[0] == mark:
            return self._read_copy(self._copy[1])
        return self._read_and_copy(self._folder, mark, read())

    def _read_copy(self, path: Path) -> Iterator[V]:
        with path.open("rb") as lines:
            for line in lines:
                yield self._kind.model_validate_json(line)

    def _read_and_copy(self, folder: Path, mark: str, values: Iterable[V]) -> Iterator[V]:
        with writing(folder), tempfile.NamedTemporaryFile(dir=folder, suffix=".jsonl", delete=False) as lines:
            for value in values:
                lines.write(value.model_dump_json().encode() + b"\n")
                yield value
        old, self._copy = self._copy, (mark, Path(lines.name))
        if old:
            old[1].unlink(missing_ok=True)

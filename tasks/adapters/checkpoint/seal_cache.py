"""A stream of documents that was read from a store once, and from private scratch for as long as the store's listing stays the same."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Generic, TypeVar

from tasks.adapters.object_store.os_errors import writing
from tasks.domain.strict import Strict

V = TypeVar("V", bound=Strict)


class Copies(Generic[V]):
    """One stream's copy. Memory does not grow with it.

    Args:
        folder: private scratch, in which it is kept; None keeps none.
        kind: what the stream is of.
    """

    def __init__(self, folder: Path | None, kind: type[V]) -> None:
        self._folder, self._kind = folder, kind
        self._kept: tuple[str, Path] | None = None

    def of(self, mark: str, read: Callable[[], Iterable[V]]) -> Iterator[V]:
        """The stream of this mark: the copy where that is of the same, otherwise what `read` gives, copied on the way.

        A stream that is not taken to its end leaves no copy.
        """
        if self._folder is None:
            return iter(read())
        if self._kept and self._kept[0] == mark:
            return self._copied(self._kept[1])
        return self._copying(self._folder, mark, read())

    def _copied(self, path: Path) -> Iterator[V]:
        with path.open("rb") as lines:
            for line in lines:
                yield self._kind.model_validate_json(line)

    def _copying(self, folder: Path, mark: str, values: Iterable[V]) -> Iterator[V]:
        with writing(folder), tempfile.NamedTemporaryFile(dir=folder, suffix=".jsonl", delete=False) as lines:
            for value in values:
                lines.write(value.model_dump_json().encode() + b"\n")
                yield value
        old, self._kept = self._kept, (mark, Path(lines.name))
        if old:
            old[1].unlink(missing_ok=True)

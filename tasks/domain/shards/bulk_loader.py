"""The interface to a target's bulk import, if it has one. `tasks.domain.shards.import_attempt` has the records of an attempt."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from tasks.domain.shards.import_attempt import ImportState
from tasks.domain.target.collection import CollectionSpec

if TYPE_CHECKING:  # adapters exchange tables
    import pyarrow as pa


class StagedFiles(Protocol):
    """A writer of the files that a server imports. Leaving the context removes its local temporary files."""

    def __enter__(self) -> Self:
        """Begin to accept parts."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Remove temporary files; staged files stay until `BulkLoader.clear`."""

    def add(self, part: pa.Table) -> int:
        """Add a part with the columns of an upsert; returns how many of its texts were cut to fit."""

    def files(self) -> list[str]:
        """Stage the remaining rows; returns the places at which the server finds the files to import."""

    def upserts(self) -> tuple[int, list[str]]:
        """Stage the remaining rows; returns the number of rows that cannot be imported but upserted, and the keys of their files."""


class BulkLoader(Protocol):
    """Fills a new collection by the server's bulk import of files. Not every target has one.

    An import ignores keys: importing a file twice, or files that share a key, duplicates rows. So each attempt fills a
    collection of its own, which is renamed to its final name after its rows are counted.
    """

    def check(self) -> None:
        """Check that an import can be started; writes nothing.

        Raises:
            BadInput: the server has no import, or there is no place from which it reads files.
        """

    def takes(self, spec: CollectionSpec) -> bool:
        """Whether this target, as it is configured, can fill such a collection by import."""

    def stage(self, collection: str, prefix: str, scratch: Path) -> StagedFiles:
        """Open a writer of import files for an existing collection.

        Args:
            collection: the collection whose fields the files have.
            prefix: this attempt's own prefix below the staging place.
            scratch: the run's private folder.
        """

    def start(self, collection: str, files: Sequence[str], *, idempotency_key: str) -> list[str]:
        """Start importing files; returns the server's job ids.

        Raises:
            OutcomeUnknown: the job may be running.
            Permanent: the server refuses.
        """

    def look(self, job: str) -> ImportState:
        """Return the state of a job.

        Raises:
            Transient: the server does not answer.
        """

    def staged_rows(self, keys: Iterable[str]) -> Iterator[pa.Table]:
        """Yield the rows of staged files, in batches.

        Raises:
            Permanent: a file is missing or damaged.
        """

    def rename(self, collection: str, to: str) -> None:
        """Rename a collection.

        Raises:
            Permanent: the new name is taken.
        """

    def clear(self, prefix: str) -> None:
        """Remove the staged files of an attempt."""

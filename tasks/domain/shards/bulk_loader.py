"""The seam to a target's own import, where it has one; beside what is kept of an attempt (`tasks.domain.shards.import_attempt`)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from tasks.domain.shards.import_attempt import ImportState
from tasks.domain.target.collection import CollectionSpec

if TYPE_CHECKING:  # tables are the language between the adapters
    import pyarrow as pa


class StagedFiles(Protocol):
    """Rows on their way into files that a server imports. Leaving the context removes what is temporary here."""

    def __enter__(self) -> Self:
        """Ready for parts."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """What is staged stays, until `BulkLoader.clear`."""

    def add(self, part: pa.Table) -> int:
        """Take a part, whose columns are those of an upsert; how many of its texts were cut to fit."""

    def files(self) -> list[str]:
        """Stage the rest; where the server finds each file to import."""

    def upserts(self) -> tuple[int, list[str]]:
        """Stage the rest; how many rows an import does not take and are to be upserted, and the keys of their files."""


class BulkLoader(Protocol):
    """Fills a fresh collection by the server's own import, from files that it reads. A target may have none.

    An import knows no keys: the same file twice, or one key in two files, doubles rows. So each attempt fills a collection of
    its own, which takes its name when its rows are counted.
    """

    def check(self) -> None:
        """Whether an import can be started at all; writes nothing.

        Raises:
            BadInput: the server has none, or there is no place that it reads files from.
        """

    def takes(self, spec: CollectionSpec) -> bool:
        """Whether a collection such as this can be filled by import, as the target is set up."""

    def stage(self, collection: str, prefix: str, scratch: Path) -> StagedFiles:
        """Files for a collection that is there.

        Args:
            collection: whose fields the files have.
            prefix: below the staging place, this attempt's own.
            scratch: private, of a run.
        """

    def start(self, collection: str, files: Sequence[str], *, idempotency_key: str) -> list[str]:
        """Have files imported; the server's job ids.

        Raises:
            OutcomeUnknown: the job may be running.
            Permanent: the server refuses.
        """

    def look(self, job: str) -> ImportState:
        """How far a job is.

        Raises:
            Transient: the server does not answer.
        """

    def staged_rows(self, keys: Iterable[str]) -> Iterator[pa.Table]:
        """The rows of staged files, in batches.

        Raises:
            Permanent: a file is gone or damaged.
        """

    def rename(self, collection: str, to: str) -> None:
        """Give a collection another name.

        Raises:
            Permanent: somebody has it.
        """

    def clear(self, prefix: str) -> None:
        """Remove what an attempt has staged."""

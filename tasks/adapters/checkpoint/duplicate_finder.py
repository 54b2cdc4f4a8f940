"""Finds keys that occur in several shards of a corpus: DuckDB over Parquet files, with bounded memory."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

from tasks.adapters.object_store.os_errors import disk_error
from tasks.domain.errors import KitestringError, Permanent

MEMORY = "512MB"
ANSWER_ROWS = 100_000  # rows to fetch at a time
KEYS = pa.schema([("id", pa.string()), ("part", pa.int32())])  # minimum columns of each file; part: the part's index in its seal


class DuplicateFinder:
    """Collects keys once, then answers which shard owns each. Shards are numbered in plan order; a shard has a key once.

    Args:
        folder: private scratch, for files and spilled sorts.
        chunks: keys are those of chunks, and all chunks of a document have one owner.

    Raises:
        Permanent: the disk is full (names folder and remedy); also from writes within its `with`.
        Transient: the disk fails; also from writes within its `with`.
    """

    def __init__(self, folder: Path, *, chunks: bool = False) -> None:
        import duckdb  # noqa: PLC0415 - 0.3 s, only needed to load

        self._owned = "regexp_replace(id, '#[0-9]+$', '')" if chunks else "id"  # the unit of ownership: a document or a row
        self._folder, self._files = folder, folder / "keys"
        try:
            self._open(duckdb)
        except (OSError, duckdb.Error) as error:
            raise duckdb_error(error, folder) from error

    def _open(self, duckdb: Any) -> None:
        folder = self._folder
        self._files.mkdir(parents=True)
        pq.write_table(KEYS.empty_table(), self._files / "-1.parquet")  # a pattern must match at least one file
        self._db = duckdb.connect(
            str(folder / "keys.duckdb"),
            config={"memory_limit": MEMORY, "temp_directory": str(folder / "spilled"), "preserve_insertion_order": False},
        )
        self._db.execute("CREATE TABLE before (owned VARCHAR)")
        number = "CAST(parse_filename(filename, true) AS INTEGER)"
        files = f"read_parquet('{self._files}/*.parquet', filename = true)"
        self._db.execute(f"CREATE VIEW keys AS SELECT id, {self._owned} AS owned, part, {number} AS shard FROM {files}")  # noqa: S608 - private scratch path

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        import duckdb  # noqa: PLC0415 - as above

        with suppress(duckdb.Error):
            self._db.close()
        if isinstance(error, (OSError, duckdb.Error)):
            raise duckdb_error(error, self._folder) from error

    def add(self, shard: int, keys: bytes) -> None:
        """Add the keys of a shard: a Parquet file with the columns of KEYS."""
        (self._files / f"{shard}.parquet").write_bytes(keys)

    def remember(self, keys: bytes) -> None:
        """Add keys (a Parquet file with a column id) that were in several shards before: their owner may change now."""
        path = self._files.parent / "before.parquet"
        path.write_bytes(keys)
        self._db.execute(f"INSERT INTO before SELECT DISTINCT {self._owned} FROM read_parquet(?)", [str(path)])  # noqa: S608 - fixed words

    def assign_owners(self, *, last: bool) -> int:
        """Find the owner of every key that is or was in several shards. Returns the number of rows that other shards lose."""
        # Count hashes first: they need less memory than keys, and most corpora have no duplicates.
        self._db.execute(
            "CREATE TABLE doubled AS SELECT owned FROM keys "
            "SEMI JOIN (SELECT hash(owned) AS h FROM keys GROUP BY h HAVING min(shard) <> max(shard)) AS often ON hash(keys.owned) = often.h "
            "GROUP BY owned HAVING min(shard) <> max(shard) UNION SELECT owned FROM before"
        )
        least = "max" if last else "min"
        self._db.execute(
            f"CREATE TABLE chosen AS SELECT owned, {least}(shard) AS shard FROM keys SEMI JOIN doubled USING (owned) GROUP BY owned"  # noqa: S608 - a fixed word
        )
        self._db.execute("CREATE TABLE owners AS SELECT keys.id, keys.shard, keys.part FROM keys JOIN chosen USING (owned, shard)")
        self._db.execute(
            "CREATE TABLE lost AS SELECT keys.id, keys.shard, keys.part, chosen.shard AS owner "
            "FROM keys JOIN chosen USING (owned) WHERE keys.shard <> chosen.shard"
        )
        return int(self._one("SELECT count(*) FROM lost")[0])

    def owners(self) -> Iterator[tuple[int, int, list[str]]]:
        """Yield shard, part, and its owned keys that other shards have or had as well; in order."""
        yield from self._by_part("SELECT shard, part, id FROM owners ORDER BY shard, part, id")

    def lost(self) -> Iterator[tuple[int, int, list[str]]]:
        """Yield shard, part, and its keys that other shards own; in order."""
        yield from self._by_part("SELECT shard, part, id FROM lost ORDER BY shard, part, id")

    def surplus(self) -> Iterator[list[str]]:
        """Yield pages of lost keys that their owner lacks: chunks of a document beyond those of its owner."""
        cursor = self._db.execute("SELECT DISTINCT lost.id FROM lost ANTI JOIN owners USING (id)")
        while rows := cursor.fetchmany(ANSWER_ROWS):
            yield [key for (key,) in rows]

    def write_lost(self, names: list[str]) -> bytes:
        """Return a Parquet file of every lost row: id, shard (`names` by number), part; in the order of shards."""
        path = self._files.parent / "lost.parquet"
        schema = pa.schema([("id", pa.string()), ("shard", pa.string()), ("part", pa.int32())])
        with pq.ParquetWriter(path, schema, compression="zstd", write_page_checksum=True) as writer:
            for shard, part, keys in self.lost():
                writer.write_table(
                    pa.table([keys, [names[shard]] * len(keys), pa.repeat(pa.scalar(part, pa.int32()), len(keys))], schema=schema)
                )
        return path.read_bytes()

    def examples(self, most: int) -> list[tuple[int, str, int]]:
        """Return up to `most` shards that lost keys: the shard, one of its keys and that key's owner."""
        rows = self._db.execute(
            "SELECT shard, min(id), arg_min(owner, id) FROM lost GROUP BY shard ORDER BY shard LIMIT ?", [most]
        ).fetchall()
        return [(int(shard), str(key), int(owner)) for shard, key, owner in rows]

    def _one(self, query: str) -> Any:
        return self._db.execute(query).fetchone()

    def _by_part(self, query: str) -> Iterator[tuple[int, int, list[str]]]:
        cursor, current, keys = self._db.execute(query), (-1, -1), list[str]()
        while rows := cursor.fetchmany(ANSWER_ROWS):
            for shard, part, key in rows:
                if (shard, part) != current:
                    if keys:
                        yield *current, keys
                    current, keys = (shard, part), []
                keys.append(key)
        if keys:
            yield *current, keys


def duckdb_error(error: Exception, folder: Path) -> KitestringError:
    """Translate a DuckDB error. DuckDB has one type for all disk errors and no errno: the system's message ends its first line."""
    if isinstance(error, OSError):
        return disk_error(error, folder)
    first = str(error).splitlines()[0]
    numbers = {os.strerror(number): number for number in errno.errorcode}
    if (code := numbers.get(first.rpartition(": ")[2])) is not None:
        return disk_error(OSError(code, os.strerror(code)), folder)
    return Permanent(f"{folder}: keys cannot be compared: {first[:200]}")


def rows_of_table(data: bytes) -> int | None:
    """Return the rows of a Parquet file of keys; None if it is not one, or damaged by the checksums of its pages."""
    try:
        file = pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True)
        return sum(batch.num_rows for batch in file.iter_batches(ANSWER_ROWS)) if "id" in file.schema_arrow.names else None
    except (pa.ArrowException, OSError):
        return None

"""Measures the encoders' throughput: encodes a sample of rows for some seconds and seals nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

import pyarrow as pa

from tasks.adapters.checkpoint.json_documents import utc_now
from tasks.adapters.rows.pieces import PieceRows
from tasks.domain.encoding.protocol import Piece
from tasks.domain.estimate.rates import Observation
from tasks.domain.ports import Encoders
from tasks.domain.shards.seal import Part

MOST_SECONDS, LEAST_SECONDS = 15.0, 3.0  # of encoding; a small sample is repeated until the minimum is reached
PIECE_SECONDS = 1.0  # of one rank
FIRST_ROWS, MOST_ROWS = 16, 8_192  # rows of a piece: before the rate is known, and the maximum


def measure_rate(encoders: Encoders, rows: pa.Table, *, scratch: Path) -> Observation:
    """Encode rows in pieces of about a second; repeat the sample until three seconds have passed.

    Raises:
        BadInput: the encoder cannot be loaded.
    """
    encoders.facts()
    parts: list[Future[Part]] = []
    began = time.monotonic()
    for piece in _pieces(rows, parts):
        passed = time.monotonic() - began
        if passed > MOST_SECONDS or (passed > LEAST_SECONDS and piece.first >= rows.num_rows):
            break
        parts.append(_submit(encoders, piece, scratch))
    startup = sum(encoders.progress().startup.values())
    return observe([part.result() for part in parts], ranks=encoders.pace.ranks, startup_seconds=startup)


def observe(parts: list[Part], *, ranks: int, startup_seconds: float) -> Observation:
    """The throughput that the parts show. Leaves out the small first ones if there are others: their ranks were warming up."""
    steady = [part for part in parts if part.rows > FIRST_ROWS] or parts
    return Observation(
        kind="dry run",
        at=utc_now(),
        rows=sum(part.rows for part in steady),
        tokens=sum(part.stats.tokens for part in steady),
        encode_seconds=sum(part.stats.encode_seconds for part in steady) / ranks,
        startup_seconds=startup_seconds,
    )


def _pieces(rows: pa.Table, parts: list[Future[Part]]) -> Iterator[PieceRows]:
    """The sample repeated without end; positions keep increasing."""
    first = 0
    while True:
        size, begin = _piece_rows(parts), first % rows.num_rows
        chosen = rows.slice(begin, size)
        stop = first + chosen.num_rows
        numbered = chosen.set_column(0, chosen.schema.field(0), pa.array(range(first, stop), pa.int64()))
        yield PieceRows(first=first, stop=stop, batches=numbered.to_batches(), rows=chosen.num_rows)
        first = stop


def _piece_rows(parts: list[Future[Part]]) -> int:
    done = [part.result() for part in parts if part.done() and not part.exception()]
    newest = next((part for part in reversed(done) if part.rows and part.stats.encode_seconds > 0), None)
    if newest is None:
        return FIRST_ROWS
    return max(FIRST_ROWS, min(MOST_ROWS, int(newest.rows / newest.stats.encode_seconds * PIECE_SECONDS)))


def _submit(encoders: Encoders, rows: PieceRows, scratch: Path) -> Future[Part]:
    path = scratch / f"sample-{rows.first}.arrow"
    rows.write(path)
    piece = Piece(shard="sample", name="sample", first=rows.first, stop=rows.stop, rows=str(path), key=f"part-{rows.first}.parquet")
    part = encoders.submit(piece)
    part.add_done_callback(lambda _: path.unlink(missing_ok=True))
    return part

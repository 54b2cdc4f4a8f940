"""Dry run: the real ranks encode a sample, nothing is sealed or loaded, and what a run will take is told."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

import pyarrow as pa
from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.adapters.rows.pieces import PieceRows
from tasks.adapters.sources.sampling import Effort
from tasks.domain.encoding.protocol import Piece
from tasks.domain.estimate.formatting import headline
from tasks.domain.estimate.rates import Observation
from tasks.domain.job.job import Job
from tasks.domain.shards.seal import Part
from tasks.run.artifacts import show_estimate
from tasks.run.context import Run, open_run, utc_now
from tasks.run.estimate.estimator import Foresight
from tasks.run.estimate.rate_history import note_rate
from tasks.stages.plan_shards import plan_shards

MOST_SECONDS, LEAST_SECONDS = 15.0, 3.0  # of encoding; a small sample is encoded again until the least is reached
PIECE_SECONDS = 1.0  # of one rank
FIRST_ROWS, MOST_ROWS = 16, 8_192  # of a piece: before anything is known, and the most
TEXTS, PICTURES = 512, 64  # at each place of the sample
log = logging.getLogger("kitestring.run")


def try_out(job: Job) -> dict[str, Any]:
    """Encode a sample as a run would, and tell what the run will take. Of all that, the rate alone is kept.

    Returns:
        What `plan --json` prints, with `dry_run` and what was measured.

    Raises:
        BadInput: as a run does.
    """
    with open_run(job, dry=True) as run:
        plan = plan_shards(run)
        foresight = Foresight(run.inspected, plan.spool, plan)
        measured = measure_rate(run, foresight) if foresight.left.to_encode else None
        run.ranks.rest()
        if measured:
            note_rate(run.inspected, measured)
        estimate = foresight.estimate()
        log.info("dry run: %s", headline(estimate))
        show_estimate(job.corpus, estimate)
        seen = measured.model_dump(mode="json") if measured else None
        return {"dry_run": True, **foresight.figures(estimate), "measured": seen}


@task(name="measure", cache_policy=NO_CACHE)
def measure_rate(run: Run, foresight: Foresight) -> Observation | None:
    """Encode rows from everywhere in the corpus for some seconds; None where the sample holds no good row.

    Raises:
        BadInput: the encoder cannot be loaded.
    """
    at_a_place = TEXTS if run.job.source.modality == "text" else PICTURES
    with run.journal.during("encode"):
        sample = foresight.sample(Effort(rows=at_a_place, bytes=64 << 20))
        if not sample.rows:
            return None
        run.ranks.facts()
        parts = [part.result() for part in _encode(run, pa.concat_tables(sample.rows).combine_chunks())]
    return observe(parts, ranks=run.launch.ranks, startup_seconds=sum(run.ranks.startup.values()))


def observe(parts: list[Part], *, ranks: int, startup_seconds: float) -> Observation:
    """What the parts say, the first small ones left out if there are others: their ranks were still warming up."""
    steady = [part for part in parts if part.rows > FIRST_ROWS] or parts
    return Observation(
        kind="dry run",
        at=utc_now(),
        rows=sum(part.rows for part in steady),
        tokens=sum(part.stats.tokens for part in steady),
        encode_seconds=sum(part.stats.encode_seconds for part in steady) / ranks,
        startup_seconds=startup_seconds,
    )


def _encode(run: Run, rows: pa.Table) -> list[Future[Part]]:
    """Hand the sample to the ranks in pieces of about a second, again and again while it takes less than three."""
    parts: list[Future[Part]] = []
    began = time.monotonic()
    for piece in _pieces(rows, parts):
        passed = time.monotonic() - began
        if passed > MOST_SECONDS or (passed > LEAST_SECONDS and piece.first >= rows.num_rows):
            break
        parts.append(_submit(run, piece))
    return parts


def _pieces(rows: pa.Table, parts: list[Future[Part]]) -> Iterator[PieceRows]:
    """The sample over and over; positions go on counting."""
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


def _submit(run: Run, rows: PieceRows) -> Future[Part]:
    path = run.scratch / f"sample-{rows.first}.arrow"
    rows.write(path)
    piece = Piece(shard="sample", name="sample", first=rows.first, stop=rows.stop, rows=str(path), key=f"part-{rows.first}.parquet")
    part = run.ranks.submit(piece)
    part.add_done_callback(lambda _: path.unlink(missing_ok=True))
    return part

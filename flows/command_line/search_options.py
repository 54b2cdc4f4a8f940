"""Options of `kitestring search`, and its HTML and JSON output."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tasks.domain.errors import BadInput
from tasks.domain.job.gate import SearchMode
from tasks.domain.job.job import Job
from tasks.domain.target.collection import Hit
from tasks.domain.target.full_text import RRF_K, Fusion

if TYPE_CHECKING:  # imports Prefect, which must not be imported before its server is known
    from tasks.commands.search import SearchOptions

Mode = Annotated[
    SearchMode | None,
    typer.Option(
        "--mode",
        help="dense: by meaning (sparse with encoder.kind sparse). text: by words (BM25). hybrid: both. Default: hybrid if the collection"
        " has full text, else by meaning.",
    ),
]
RrfK = Annotated[
    int | None, typer.Option("--rrf", metavar="K", min=1, max=16_384, help=f"Hybrid: fuse by ranks, 1 / (K + rank). Default: {RRF_K}.")
]
Weights = Annotated[
    str | None,
    typer.Option("--weights", metavar="DENSE,TEXT", help="Hybrid: fuse by scores, each scaled to 0..1, with these weights (0 to 1)."),
]
Queries = Annotated[
    str | None,
    typer.Option(
        "--queries",
        metavar="FILE",
        help="JSON Lines of {query, relevant: [ids] or {id: gain}}, or CSV with the columns query, id and optionally gain. Default: the gate's.",
    ),
]
Float32Rows = Annotated[
    int | None,
    typer.Option(
        "--float32-rows",
        metavar="N",
        min=0,
        max=100_000,
        help="With encoder.precision int8 or float8: number of rows, besides the judged ones, that are also embedded in float32 and compared."
        " 0: none. Default: the gate's, or 2,000.",
    ),
]
AllChunks = Annotated[
    bool, typer.Option("--all-chunks", help="Return every matching chunk, not only the best one of each document. For source.chunks.")
]
Explain = Annotated[bool, typer.Option("--explain", help="Also show the rank of each hit by meaning and by words.")]


def way_of(mode: SearchMode | None, rrf_k: int | None, weights: str | None, *, explain: bool, all_chunks: bool = False) -> SearchOptions:
    """Combine the options into a `SearchOptions`. Raises as `fusion_of`."""
    from tasks.commands.search import SearchOptions  # noqa: PLC0415

    return SearchOptions(mode=mode, fusion=fusion_of(rrf_k, weights), explain=explain, all_chunks=all_chunks)


def fusion_of(rrf_k: int | None, weights: str | None) -> Fusion:
    """Return how hits by meaning and by words are fused.

    Raises:
        BadInput: the weights are not two numbers from 0 to 1, or both --rrf and --weights are given.
    """
    if rrf_k is not None and weights is not None:
        raise BadInput("--rrf fuses by ranks and --weights by scores: give one of them")
    return Fusion(rrf_k=rrf_k or RRF_K, weights=_weights(weights) if weights else None)


def _weights(text: str) -> tuple[float, float]:
    try:
        by_meaning, by_words = (float(part) for part in text.split(","))
    except ValueError:
        raise BadInput(f"--weights '{text}': give two numbers, one by meaning and one by words, as in --weights 0.7,0.3") from None
    if not (0 <= by_meaning <= 1 and 0 <= by_words <= 1):
        raise BadInput(f"--weights '{text}': each must be from 0 to 1")
    return by_meaning, by_words


def write_page(path: Path, job: Job, question: str, hits: list[Hit], *, picture: str | None) -> None:
    """Write the hits as an HTML page, with the query image if there is one."""
    from tasks.adapters.report.search_page import render_hits  # noqa: PLC0415
    from tasks.commands.search_pictures import shown_passages, shown_picture, thumbnails  # noqa: PLC0415

    query_image = shown_picture(job, picture) if picture else None
    page = render_hits(question, job.target.collection, hits, thumbnails(job, hits), asked=query_image, passages=shown_passages(job, hits))
    try:
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise BadInput(f"--html: '{path}' cannot be written: {error.strerror}") from error


def hits_document(hits: Sequence[Hit], *, explain: bool) -> list[dict[str, Any]]:
    """Return hits as JSON values; with `explain`, each with its ranks."""
    ranks = [{"ranks": {"meaning": hit.by_meaning, "words": hit.by_words}} if explain else {} for hit in hits]
    return [{"id": hit.id, "score": hit.score, **hit.fields, **rank} for hit, rank in zip(hits, ranks, strict=True)]

"""The commands that query a collection: `search` and `evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.command_line.answers import answers, say
from flows.command_line.options import AsJson, JobFile, SetOptions
from flows.command_line.search_options import (
    AllChunks,
    Explain,
    Float32Rows,
    Mode,
    Queries,
    RrfK,
    Weights,
    fusion_of,
    hits_document,
    way_of,
    write_page,
)
from flows.command_line.terminal import errors
from flows.job_file import read_job
from tasks.domain.errors import BadInput
from tasks.domain.job.credentials import without_credentials


def search(
    job: JobFile,
    text: Annotated[str | None, typer.Argument(help="The query text.")] = None,
    image: Annotated[
        str | None,
        typer.Option("--image", metavar="FILE", help="Search with an image (a path or a URI) instead of text. For open-clip jobs."),
    ] = None,
    k: Annotated[int, typer.Option("-k", min=1, max=16_384, help="Number of hits.")] = 10,
    expression: Annotated[str, typer.Option("--filter", help="A Milvus filter expression over the metadata fields.")] = "",
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Also write the hits as an HTML page, with the images of an image corpus.")
    ] = None,
    mode: Mode = None,
    rrf_k: RrfK = None,
    weights: Weights = None,
    all_chunks: AllChunks = False,
    explain: Explain = False,
    settings: SetOptions = None,
    as_json: AsJson = False,
) -> None:
    """Search by meaning (the query, text or an image, is embedded with the job's encoder), by words, or by both."""
    with answers():
        if (text is None) == (image is None):  # before imports, which take seconds
            raise BadInput('give either a text to search for, as in `kitestring search JOB "a question"`, or an image (--image FILE)')
        from flows.command_line.show import hits_text
        from tasks.commands.search import ask

        parsed, way = read_job(job, settings), way_of(mode, rrf_k, weights, explain=explain, all_chunks=all_chunks)
        hits = ask(parsed, k, text=text, picture=image, expression=expression, way=way)
        if html:
            write_page(html, parsed, text or Path(str(image)).name, hits, picture=image)
        say(hits_document(hits, explain=explain), as_json=as_json, text=lambda _: hits_text(hits, explain=explain))


def evaluate(
    job: JobFile,
    queries: Queries = None,
    k: Annotated[int | None, typer.Option("-k", min=1, max=1_000, help="Number of hits to evaluate. Default: the gate's, or 10.")] = None,
    rrf_k: RrfK = None,
    weights: Weights = None,
    float32_rows: Float32Rows = None,
    settings: SetOptions = None,
    as_json: AsJson = False,
) -> None:
    """Measure retrieval quality (nDCG@k, recall@k, MRR) by meaning, by words and by both, on queries with known answers. With encoder.precision int8 or float8, also those of float32 over the same rows."""
    from flows.command_line.show import quality_text
    from tasks.commands.evaluate import evaluate_job

    with answers():
        fusion = fusion_of(rrf_k, weights)
        measured, beside = evaluate_job(read_job(job, settings), queries, k, fusion=fusion, float32_rows=float32_rows, say=_print_note)
        document = {**measured.model_dump(mode="json"), "precision_quality": beside and beside.model_dump(mode="json")}
        say(document, as_json=as_json, text=lambda _: quality_text(measured, beside))


def _print_note(line: str) -> None:
    errors.print(without_credentials(line), markup=False)

"""`kitestring browse`: a page to search a job's collections with, and the same for applications by HTTP."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from flows.command_line.answers import answers, say
from flows.command_line.options import JobFile, SetOptions
from flows.command_line.terminal import errors
from flows.job_file import read_job


def browse(  # noqa: PLR0917
    job: JobFile,
    host: Annotated[
        str,
        typer.Option(
            "--host",
            help="Address to listen at. One that other machines reach is guarded by a token, printed once with the page's address.",
        ),
    ] = "127.0.0.1",
    port: Annotated[
        int | None, typer.Option("--port", min=0, max=65_535, help="Default: 8642, or any free port if that is in use.")
    ] = None,
    questions: Annotated[
        str | None,
        typer.Option(
            "--questions", metavar="FILE", help="File that questions are saved to, JSON Lines or CSV. Default: target.gate.queries."
        ),
    ] = None,
    opens: Annotated[bool, typer.Option("--open/--no-open", help="Open the page in the browser of this machine.")] = True,
    settings: SetOptions = None,
) -> None:
    """Search in a browser: by words or by a picture, with filters, two collections or two modes side by side. Ctrl-C ends it.

    The model is loaded once. Applications search by HTTP with JSON, from several threads if they like:

        POST /search     {"text": "words" or "picture": "base64", "k": 10, "mode": "dense", "filter": "year > 2020",
        "where": [{"field": "topic", "is": "==", "value": "safety"}], "collection": "name", "explain": false, "all_chunks": false};
        all but text or picture may be left out. Gives {"collection", "mode", "seconds", "model_seconds" (waited for the model to load),
        "hits": [{"id", "score", "text", "fields"}]}.

        POST /pictures   {"ids": ["key"]} gives {"pictures": {"key": "data:image/jpeg;base64,..."}} of an image corpus.

        POST /questions  {"query": "words", "relevant": ["key"]} saves a question with its right answers for target.gate.

        GET /info        collections, their fields, modes and rows.

    A mistake is {"error": "one sentence"}: status 400 for the request, 401 without the token, 403 from another site, 503 if a server is down.
    """
    from tasks.commands.browse.server import serve_job  # noqa: PLC0415 - it takes seconds

    with answers():
        parsed = read_job(job, settings)
        asks = opens and sys.stdout.isatty()

        def told(url: str) -> None:
            say(f"{parsed.corpus}: {url}", as_json=False)
            errors.print("the model is being loaded; Ctrl-C ends this", markup=False)

        serve_job(parsed, host=host, port=port, questions=questions, opens=asks, told=told)

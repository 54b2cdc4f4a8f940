"""`kitestring browse`: a web page to search a job's collections, and an HTTP API for applications."""

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
            help="Address to listen on. If other machines can reach it, a token is required, which is printed once with the page's address.",
        ),
    ] = "127.0.0.1",
    port: Annotated[
        int | None, typer.Option("--port", min=0, max=65_535, help="Default: 8642, or any free port if that is in use.")
    ] = None,
    questions: Annotated[
        str | None,
        typer.Option("--questions", metavar="FILE", help="File to save queries to, JSON Lines or CSV. Default: target.gate.queries."),
    ] = None,
    opens: Annotated[bool, typer.Option("--open/--no-open", help="Open the page in this machine's browser.")] = True,
    settings: SetOptions = None,
) -> None:
    """Search in a browser: by text or by image, with filters, two collections or two modes side by side. Ctrl-C ends it.

    The model is loaded once. Applications search by HTTP with JSON; concurrent requests are allowed:

        POST /search     {"text": "words" or "picture": "base64", "k": 10, "mode": "dense", "filter": "year > 2020",
        "where": [{"field": "topic", "is": "==", "value": "safety"}], "collection": "name", "explain": false, "all_chunks": false};
        only text or picture is required. Returns {"collection", "mode", "seconds", "model_seconds" (time spent waiting for the model),
        "hits": [{"id", "score", "text", "fields"}]}.

        POST /pictures   {"ids": ["key"]} returns {"pictures": {"key": "data:image/jpeg;base64,..."}} for an image corpus.

        POST /questions  {"query": "words", "relevant": ["key"]} saves a query with its relevant rows for target.gate.

        GET /info        collections, their fields, modes and rows.

    An error is {"error": "one sentence"}: status 400 for a bad request, 401 without the token, 403 from another site, 503 if a server is down.
    """
    from tasks.commands.browse.server import serve_job  # noqa: PLC0415 - takes seconds

    with answers():
        parsed = read_job(job, settings)
        open_browser = opens and sys.stdout.isatty()

        def show_url(url: str) -> None:
            say(f"{parsed.corpus}: {url}", as_json=False)
            errors.print("loading the model; Ctrl-C ends this", markup=False)

        serve_job(parsed, host=host, port=port, questions=questions, opens=open_browser, show_url=show_url)

"""Arguments and options that many commands take."""

from __future__ import annotations

from typing import Annotated

import typer

JobFile = Annotated[
    str,
    typer.Argument(metavar="JOB", help="The job file (YAML or JSON), a path or a URI. Relative paths in it start at the current folder."),
]
SetOptions = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="PATH=VALUE", help="Override a setting of the job file, such as shards.rows=1000. May be repeated."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]

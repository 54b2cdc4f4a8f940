"""`kitestring init`: inspects data, asks questions on a terminal, and writes a first job file."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

import typer
import yaml

from flows.command_line.terminal import errors
from flows.command_line.text.tables import table_text
from flows.job_file import read_job
from tasks.adapters.files.local_files import is_local
from tasks.commands.draft_job import Draft, can_be_key, draft_job, with_columns
from tasks.commands.job_text import job_text
from tasks.commands.look_at_data import ColumnLook, SourceLook, look_at_data
from tasks.domain.errors import BadInput
from tasks.domain.job.parse import parse_job

SCHEMA_FILE = Path(__file__).parents[2] / "deployments" / "job.schema.json"
LEAST_EXAMPLE = 12  # terminal columns
NONE = "-"  # the answer for no column


def make_job_file(uri: str | None, output: Path, *, target: str | None, corpus: str | None, yes: bool, force: bool) -> str:
    """Inspect the data at a URI and write a job file for it; return a summary.

    Raises:
        BadInput: there is nothing to embed, or the file cannot be written.
    """
    asking = not yes and sys.stdin.isatty() and sys.stderr.isatty()
    if output.exists() and not force:
        raise BadInput(f"'{output}' already exists: name another file with --output, or replace it with --force")
    if uri is None:
        if not asking:
            raise BadInput("name the location of the data, as in `kitestring init data/` or `kitestring init 's3://bucket/docs/*.parquet'`")
        uri = typer.prompt("Where is the data (a file, a folder, a glob or a URI)", err=True)
    look = look_at_data(uri)
    _show(look)
    draft = draft_job(look, corpus=corpus)
    draft = replace(draft, target=target or draft.target)
    draft = _ask(draft, look, target=target) if asking else draft
    text = job_text(draft, schema=_schema_from(output), sampled=look.rows)
    document = yaml.safe_load(text)
    document.pop("$schema", None)
    parse_job(document)  # reports a wrong answer before anything is written
    _write(output, text)
    read_job(output, None)
    return _summary(output, draft)


def _ask(draft: Draft, look: SourceLook, *, target: str | None) -> Draft:
    """Ask the user for columns and locations; Enter accepts the detected value. Return the changed draft."""
    if look.columns:
        names = [column.name for column in look.columns]
        content = _ask_columns("Column to embed (several: a, b)", [draft.image] if draft.image else list(draft.text), names)
        keys = [column.name for column in look.columns if can_be_key(column) and column.name not in content]
        likely = draft.key if draft.key in keys else None
        key = _ask_columns("Key column, '-' for none", [likely] if likely else [], names, empty=True) if keys else []
        pictures = {column.name for column in look.columns if column.pictures}
        image = content[0] if len(content) == 1 and content[0] in pictures else None
        draft = with_columns(draft, look, image=image, text=() if image else tuple(content), key=key[0] if key else None)
    where = target or typer.prompt("Milvus (a .db file, http://host:19530)", default=draft.target, err=True)
    return replace(
        draft, target=where, checkpoint=typer.prompt("Checkpoint (a folder, s3://bucket/prefix)", default=draft.checkpoint, err=True)
    )


def _ask_columns(question: str, default: list[str], names: list[str], *, empty: bool = False) -> list[str]:
    while True:
        answer = typer.prompt(question, default=", ".join(default) or (NONE if empty else None), err=True)
        chosen = [] if empty and answer == NONE else [name.strip() for name in answer.split(",") if name.strip()]
        unknown = [name for name in chosen if name not in names]
        if not unknown and (chosen or empty):
            return chosen
        typer.echo(f"there is no column {', '.join(map(repr, unknown))}; there are {', '.join(names)}", err=True)


def _show(look: SourceLook) -> None:
    """Print the detected files and columns on stderr."""
    others = "".join(f"; {count:,} of kind {kind} beside them" for kind, count in look.others.items())
    counted = f"{look.files:,}{' or more' if look.more else ''} {'file' if look.files == 1 else 'files'}"
    files = counted if look.files else "a table"
    errors.print(f"{look.uri}: {files} of kind {look.kind}{others}", markup=False)
    if not look.columns:
        return
    rows = [
        (column.name, _kind(column), f"{column.filled:.0%}", f"{column.distinct:.0%}", _plain(column.example)) for column in look.columns
    ]
    table = table_text(("column", "type", "filled", "distinct", "example"), rows, to=sys.stderr, least=LEAST_EXAMPLE)
    errors.print(table, markup=False)


def _kind(column: ColumnLook) -> str:
    return "picture" if column.pictures else "bytes" if column.binary else str(column.type)


def _plain(text: str) -> str:
    """Replace control characters, which must not reach the terminal."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


def _schema_from(output: Path) -> str | None:
    """Return the path of this checkout's schema, relative to the job file if that is inside the checkout, too."""
    if not SCHEMA_FILE.exists():
        return None
    folder = output.resolve().parent
    return os.path.relpath(SCHEMA_FILE, folder) if folder.is_relative_to(SCHEMA_FILE.parents[1]) else str(SCHEMA_FILE)


def _write(output: Path, text: str) -> None:
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise BadInput(f"--output: '{output}' cannot be written: {error.strerror}") from error


def _summary(output: Path, draft: Draft) -> str:
    lines = [f"wrote {output}"]
    if is_local(draft.uri) and not os.path.isabs(draft.uri):  # noqa: PTH117 - a URI
        lines.append(f"Its relative paths start at the folder in which you run it, currently {Path.cwd()}.")
    return "\n".join([*lines, f"next: kitestring plan {output}; kitestring run {output}"])

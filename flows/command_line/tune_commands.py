"""`kitestring tune`: its options, its table and its page."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from flows.command_line.answers import OK, answers, say
from flows.command_line.options import AsJson, JobFile, SetOptions
from flows.command_line.terminal import errors
from flows.command_line.text.tables import table_text
from flows.job_file import read_job
from tasks.domain.encoding.tune.scaling_laws import ScalingResult
from tasks.domain.encoding.tune.trial_text import SCALING_HEADS, TRIAL_HEADS, scaling_cells, trial_cells
from tasks.domain.encoding.tune.trials import TuneResult
from tasks.domain.errors import BadInput

INTERRUPTED = 130


def tune(
    job: JobFile,
    scaling: Annotated[
        bool, typer.Option("--scaling", help="Measure 1, 2, 4 ... N ranks instead, on the same rows and on N times as many.")
    ] = False,
    minutes: Annotated[float, typer.Option("--minutes", min=0.1, help="Start no more measurements after so many minutes.")] = 10.0,
    keep: Annotated[
        bool,
        typer.Option(
            "--apply", help="Store the winner in the checkpoint: later runs on this kind of machine use it for settings that are auto."
        ),
    ] = False,
    html: Annotated[Path, typer.Option("--html", metavar="FILE", help="The page to write.")] = Path("tune.html"),
    settings: SetOptions = None,
    as_json: AsJson = False,
) -> None:
    """Find the fastest settings for the job's own rows on this machine: batch size, ranks, backend, precision. Touches no collection.

    Ctrl-C ends it and prints what was measured.
    """
    from tasks.adapters.report.tuning.tune_page import render_scaling, render_tune
    from tasks.commands.tune.scale_job import scale_job
    from tasks.commands.tune.tune_job import tune_job
    from tasks.commands.tune.tune_settings import as_yaml

    with answers():
        if scaling and keep:
            raise BadInput("--scaling stores nothing: leave --apply out")
        _check_page(html)
        parsed = read_job(job, settings)
        if scaling:
            scaled = scale_job(parsed, minutes=minutes, say=_print_step)
            html.write_text(render_scaling(scaled))
            say(scaled.model_dump(mode="json"), as_json=as_json, text=lambda _: f"{scaling_text(scaled)}\npage: {html}")
            raise typer.Exit(INTERRUPTED if scaled.interrupted else OK)
        result = tune_job(parsed, minutes=minutes, say=_print_step, keep=keep)
        winner = as_yaml(result)
        html.write_text(render_tune(result, settings=winner))
        document = result.model_dump(mode="json") | {"best": result.best.model_dump(mode="json") if result.best else None, "yaml": winner}
        say(document, as_json=as_json, text=lambda _: f"{tune_text(result)}\n\n{winner}\npage: {html}")
        raise typer.Exit(INTERRUPTED if result.interrupted else OK)


def _check_page(html: Path) -> None:
    """Check that the page can be written, before minutes are spent on its measurements.

    Raises:
        BadInput: the page cannot be written.
    """
    folder = html.absolute().parent
    if not folder.is_dir():
        raise BadInput(f"--html '{html}': there is no folder '{folder}'")
    if html.is_dir():
        raise BadInput(f"--html '{html}' is a folder: name a file in it")
    if not os.access(html if html.exists() else folder, os.W_OK):
        raise BadInput(f"--html '{html}' may not be written: name another file")


def _print_step(line: str) -> None:
    errors.print(f"tune: {line}", markup=False)


def tune_text(result: TuneResult) -> str:
    """Format all trials as a table, with notes."""
    notes = [*(["interrupted: this was measured until then"] if result.interrupted else []), *result.notes]
    return "\n".join(
        [f"{result.corpus} on {result.machine}", table_text(TRIAL_HEADS, trial_cells(result.trials)), *(f"note: {note}" for note in notes)]
    )


def scaling_text(result: ScalingResult) -> str:
    """Format the measurements by ranks as a table, with the laws' shares and notes."""
    laws = [f"{name}: {100 * share:.1f}% {of}" for name, share, of in _shares(result) if share is not None]
    notes = [*(["interrupted: this was measured until then"] if result.interrupted else []), *result.notes]
    table = table_text(SCALING_HEADS, scaling_cells(result))
    return "\n".join([f"{result.corpus} on {result.machine}", table, *laws, *(f"note: {note}" for note in notes)])


def _shares(result: ScalingResult) -> list[tuple[str, float | None, str]]:
    return [
        ("Amdahl's law", result.amdahl, "of the same work cannot be divided"),
        ("Gustafson's law", result.gustafson, "of growing work is done by one rank"),
    ]

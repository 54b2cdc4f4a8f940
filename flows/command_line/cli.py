"""Embed a corpus into Milvus or Zilliz Cloud, exactly once. Results go to stdout, progress and errors to stderr."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from flows.command_line.answers import NOT_PROVED, NOT_YET, OK, answers, leave, say, say_each
from flows.command_line.browse import browse
from flows.command_line.flow_runner import run_flow
from flows.command_line.logs import LogFile, OptionsAnywhere, Verbose, logged
from flows.command_line.options import AsJson, JobFile, SetOptions
from flows.command_line.process_setup import process_environment
from flows.command_line.search_commands import evaluate, search
from flows.command_line.terminal import count_shown, errors, progress_shown, rows_watched
from flows.command_line.text.usage import OneLineErrors, help_settings, help_style
from flows.command_line.tune_commands import tune
from flows.job_file import read_job
from tasks.adapters.processes.gc_control import leaving
from tasks.adapters.processes.hardware import version_of
from tasks.domain.errors import BadInput, Damaged, Permanent
from tasks.domain.job.json_schema import job_schema

TERMINATED = 128 + signal.SIGTERM

HELP = """Kitestring embeds a corpus of texts or images into Milvus or Zilliz Cloud, exactly once.

A job file (YAML) names the source, the encoder, a checkpoint and the collection. `run` embeds what is new, loads it, verifies the
collection and points the alias at it; run it again to resume, or after the source changed. Relative paths in a job file start at the
current folder. Results go to stdout, progress and errors to stderr.

Example:  kitestring init data/;  kitestring plan job.yaml;  kitestring run job.yaml;  kitestring search job.yaml "a question"
"""
app = typer.Typer(
    cls=OptionsAnywhere,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help=HELP,
    rich_markup_mode=help_style(),
    context_settings=help_settings(),
)
quarantine = typer.Typer(cls=OneLineErrors, no_args_is_help=True, rich_markup_mode=help_style(), help="Rows that could not be embedded.")
app.add_typer(quarantine, name="quarantine")


def _print_version(requested: bool) -> None:
    if requested:
        sys.stdout.write(f"kitestring {version_of('kitestring') or '(a checkout that is not installed)'}\n")
        raise typer.Exit(OK)


@app.callback(help=HELP)
def every_command(
    context: typer.Context,
    *,
    version: Annotated[bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)] = False,
    verbose: Verbose = 0,
    log_file: LogFile = None,
) -> None:
    """Options of every command."""
    assert not version  # its callback has exited
    with answers():
        context.with_resource(logged(verbose, log_file))


def _run_and_say(flow: str, job: str, settings: list[str] | None, *, as_json: bool) -> None:
    """Run a flow that takes the job alone, and print its result."""
    from flows.command_line.show import run_text

    with answers(as_json=as_json):
        parsed = read_job(job, settings)
        with progress_shown():
            result = run_flow(flow, parsed)
        say(result, as_json=as_json, text=run_text)


@app.command()
def run(
    job: JobFile,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Encode a sample for some seconds and print the estimated time, storage and cost. Seals and loads nothing."
        ),
    ] = False,
    settings: SetOptions = None,
    as_json: AsJson = False,
) -> None:
    """Run the job: plan, encode, load, verify, report. Resumes where an earlier run stopped."""
    from flows.command_line.show import dry_run_text, run_text

    with answers(as_json=as_json):
        parsed = read_job(job, settings)
        with progress_shown():
            result = run_flow("flows.embed.embed_corpus", parsed, encodes=True, dry_run=dry_run)
        say(result, as_json=as_json, text=dry_run_text if dry_run else run_text)


@app.command()
def replay(job: JobFile, settings: SetOptions = None, as_json: AsJson = False) -> None:
    """Load the sealed vectors into the target (another server, another collection) without encoding."""
    _run_and_say("flows.replay.replay_seals", job, settings, as_json=as_json)


@app.command()
def plan(job: JobFile, settings: SetOptions = None, as_json: AsJson = False) -> None:
    """Show what a run would do, and its estimated time, storage and cost. Uses no GPU and writes nothing."""
    from flows.command_line.show import plan_text
    from tasks.commands.inspect import look_at_plan

    with answers():
        say(look_at_plan(read_job(job, settings)), as_json=as_json, text=plan_text)


@app.command()
def status(
    job: JobFile,
    watch: Annotated[bool, typer.Option("--watch", help="Follow a run in progress, here or on another machine, until it ends.")] = False,
    settings: SetOptions = None,
    as_json: AsJson = False,
) -> None:
    """Show what is sealed, loaded and searchable, and the run in progress. Exit code 0: complete; 3: not complete."""
    from flows.command_line.show import status_text
    from flows.command_line.watching import watch_run
    from tasks.commands.inspect import look_at_status

    with answers():
        parsed = read_job(job, settings)
        if watch:
            watch_run(parsed, as_json=as_json)
        result = look_at_status(parsed)
        say(result.summary, as_json=as_json, text=lambda _: status_text(result))
        if not result.complete:
            raise typer.Exit(NOT_YET)


@app.command()
def verify(
    job: JobFile,
    full: Annotated[
        bool, typer.Option("--full", help="Compare every row (key, vector, fields, text) instead of a sample. Reads every part.")
    ] = False,
    seed: Annotated[int | None, typer.Option("--seed", min=0, help="Repeat the sample of an earlier verification.")] = None,
    settings: SetOptions = None,
    as_json: AsJson = False,
) -> None:
    """Verify the collection against the sealed shards: counts, total, and a sample of rows. Exit code 0: verified; 4: not."""
    from flows.command_line.show import proof_text
    from tasks.stages.verify import look_at_proof

    with answers():
        proof = look_at_proof(read_job(job, settings), full=full, seed=seed, watched=rows_watched)
        say(proof.model_dump(mode="json"), as_json=as_json, text=lambda _: proof_text(proof))
        if not proof.proved:
            raise typer.Exit(NOT_PROVED)


@app.command()
def diff(
    job: JobFile,
    full: Annotated[bool, typer.Option("--full", help="Compare every row and list each difference. Reads every part.")] = False,
    settings: SetOptions = None,
    as_json: AsJson = False,
) -> None:
    """List keys that are only sealed (-), only in the collection (+) and, with --full, rows that differ (~). Exit code 0: none; 4: some."""
    from flows.command_line.show import difference_text
    from tasks.commands.inspect import look_at_diff

    with answers(), look_at_diff(read_job(job, settings), full=full, watched=rows_watched) as looked:
        for line in looked.damaged:
            errors.print(line, markup=False)
        try:
            differences = say_each(looked.found, as_json=as_json, text=difference_text)
        except Damaged as damage:
            leave(Damaged(f"{damage}: `kitestring run` encodes its shard again"), NOT_PROVED)
        if looked.unsealed:
            errors.print(f"{looked.unsealed:,} shards are not sealed yet and were not compared: `kitestring run` encodes them")
        if differences or looked.damaged:
            raise typer.Exit(NOT_PROVED)


@app.command()
def repair(job: JobFile, settings: SetOptions = None, as_json: AsJson = False) -> None:
    """Compare every row with its sealed vector, load differing shards again without encoding, remove unaccounted rows, and verify."""
    _run_and_say("flows.repair.repair_from_seals", job, settings, as_json=as_json)


@app.command()
def promote(
    job: JobFile,
    anyway: Annotated[
        bool,
        typer.Option(
            "--anyway", help="Promote even if the collection holds fewer rows than the current one, or more rows are quarantined."
        ),
    ] = False,
    settings: SetOptions = None,
    as_json: AsJson = False,
) -> None:
    """Point the alias at the collection of the job's encoder, if it is verified, passes the gate and holds no fewer rows than the current one."""
    from flows.command_line.show import promoted_text
    from tasks.commands.promote_by_hand import promote_by_hand

    with answers():
        say(promote_by_hand(read_job(job, settings), anyway=anyway), as_json=as_json, text=promoted_text)


@app.command()
def rollback(job: JobFile, settings: SetOptions = None, as_json: AsJson = False) -> None:
    """Point the alias at the previous collection. Later runs leave it there until you run `promote`."""
    from flows.command_line.show import promoted_text
    from tasks.commands.promote_by_hand import roll_back

    with answers():
        say(roll_back(read_job(job, settings)), as_json=as_json, text=promoted_text)


app.command()(search)
app.command()(browse)
app.command()(evaluate)


@app.command()
def gc(
    job: JobFile,
    delete: Annotated[bool, typer.Option("--delete", help="Remove them. Without it they are only listed.")] = False,
    settings: SetOptions = None,
    as_json: AsJson = False,
) -> None:
    """List (with --delete: remove) unreferenced checkpoint objects and never-promoted collections older than 24 hours.

    Safe while a run is in progress. Exit code 1: not everything could be removed.
    """
    from flows.command_line.show import swept_text
    from tasks.commands.garbage_collect import sweep

    with answers():
        parsed = read_job(job, settings)
        with count_shown() as counter:
            swept = sweep(parsed, delete=delete, progress=counter)
        say(swept.summary, as_json=as_json, text=swept_text)
        if swept.failed:
            raise Permanent(f"not everything was removed: {swept.failed}; run it again")


app.command()(tune)


@quarantine.command("list")
def quarantine_list(job: JobFile, settings: SetOptions = None, as_json: AsJson = False) -> None:
    """List the quarantined rows and the reasons."""
    from flows.command_line.show import quarantine_text
    from tasks.commands.inspect import look_at_quarantine

    with answers():
        say(list(look_at_quarantine(read_job(job, settings))), as_json=as_json, text=quarantine_text)


@quarantine.command("retry")
def quarantine_retry(job: JobFile, settings: SetOptions = None, as_json: AsJson = False) -> None:
    """Retry only the quarantined rows, and load those that can be embedded now."""
    _run_and_say("flows.retry.retry_quarantined", job, settings, as_json=as_json)


@app.command()
def init(
    uri: Annotated[str | None, typer.Argument(metavar="[URI]", help="Where the data is: a file, a folder, a glob or a URI.")] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="The job file to write.")] = Path("job.yaml"),
    target: Annotated[
        str | None, typer.Option("--target", help="A Milvus Lite file (.db), a server's address or a Zilliz endpoint.")
    ] = None,
    corpus: Annotated[str | None, typer.Option("--corpus", help="Name of the corpus and the collection.")] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask: use the detected values.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing job file.")] = False,
) -> None:
    """Look at the data and write a job file for it."""
    with answers():
        from flows.command_line.first_job import make_job_file

        say(make_job_file(uri, output, target=target, corpus=corpus, yes=yes, force=force), as_json=False)


@app.command()
def schema() -> None:
    """Print the JSON Schema of a job file, with which editors complete and check it."""
    say(json.dumps(job_schema(), indent=2), as_json=False)


@app.command()
def demo(
    quick: Annotated[bool, typer.Option("--quick", help="Use about 500 passages.")] = False,
    full: Annotated[bool, typer.Option("--full", help="Use all passages.")] = False,
    folder: Annotated[Path, typer.Option(help="Output folder.")] = Path("demo"),
) -> None:
    """Embed the documentation of Python's standard library on this machine, and search it."""
    from flows.command_line.demo import show_demo

    with answers():
        if quick and full:
            raise BadInput("--quick and --full exclude each other")
        show_demo(folder, size="quick" if quick else "full" if full else "default")


def main() -> None:
    """The console script."""
    # PID 1 of a container ignores SIGTERM without a handler: the kernel applies no default action to it.
    # No cleanup is needed: the guard ends the child processes, and parts without a seal are garbage by design.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(TERMINATED))
    with leaving(), process_environment():
        app()

"""`kitestring status --watch`: shows the progress of a run in another process or on another machine."""

from __future__ import annotations

from flows.command_line.answers import FAILED, leave, say
from flows.command_line.terminal import errors, snapshots_drawn
from tasks.commands.follow_run import follow_run
from tasks.commands.waiting_runs import runs_at_prefect
from tasks.domain.errors import Permanent
from tasks.domain.job.job import Job
from tasks.domain.progress.live_run import LiveRun


def watch_run(job: Job, *, as_json: bool) -> None:
    """Follow the newest run of the corpus in progress; print a message if there is none.

    Raises:
        typer.Exit: the run failed; its cause was printed.
    """
    with snapshots_drawn() as draw:
        known = set[str]()

        def show(run: LiveRun) -> None:
            if run.run not in known:
                known.add(run.run)
                errors.print(f"{run.flow} on {run.machine}, run {run.run}", markup=False)
            if as_json:
                say(run.model_dump(mode="json"), as_json=True)
            draw(run.snapshot)

        last = follow_run(job, show)
    _print_outcome(job, last)


def _print_outcome(job: Job, last: LiveRun | None) -> None:
    if last is None:
        errors.print(f"no run of '{job.corpus}' is in progress", markup=False)
        for line in runs_at_prefect(job.corpus):
            errors.print(line, markup=False)
    elif last.state == "failed":
        leave(Permanent(f"run {last.run} failed: {last.cause}"), FAILED)
    elif last.state == "stopped":
        errors.print(f"run {last.run} was stopped: `kitestring run` resumes it")
    elif last.state == "running":
        since = f"{last.at:%Y-%m-%d %H:%M:%S} UTC"
        errors.print(
            f"run {last.run} on {last.machine} has reported nothing since {since}: if it is gone, `kitestring run` resumes it", markup=False
        )

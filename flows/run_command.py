"""The command `kitestring run` as a function, in a separate process that leaves the caller's Prefect, torch and event loop alone."""

from __future__ import annotations

import json
import sys
from subprocess import PIPE
from threading import Thread
from typing import IO, Any

from tasks.adapters.processes.process_guard import start_guarded
from tasks.adapters.processes.scratch import scratch_folder
from tasks.domain.errors import BadInput, KitestringError, Permanent, RunFailed
from tasks.domain.job.job import Job

_BAD_INPUT = 2  # the exit code of the command
ERROR = "error: "  # prefix of the line that a failed command prints


def run_command(job: Job) -> dict[str, Any]:
    """Run a job to its end; return the result of `kitestring run --json`. Progress goes to `sys.stderr`, line by line.

    The process and its children end with this process, and when this call is interrupted. The next run resumes from what they saved.

    Raises:
        BadInput, RunFailed, Permanent: the command failed.
    """
    with scratch_folder() as scratch:
        file = scratch / "job.json"
        file.write_text(job.model_dump_json(), encoding="utf-8")
        with start_guarded([sys.executable, "-P", "-m", "flows", "run", str(file), "--json"], stdout=PIPE, stderr=PIPE) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            assert process.stderr is not None
            messages = _Messages(process.stderr)
            try:
                out = process.stdout.read()
            finally:
                process.stdin.close()  # ends the process if it still runs
            code = process.wait()
            messages.join()
    if code:
        raise _failure(code, messages.error, out)
    result: dict[str, Any] = json.loads(out)
    return result


class _Messages(Thread):
    """Forwards the command's messages and keeps its error."""

    def __init__(self, stream: IO[bytes]) -> None:
        super().__init__(daemon=True, name="messages of kitestring run")
        self._stream, self.error = stream, ""
        self.start()

    def run(self) -> None:
        for line in self._stream:
            text = line.decode(errors="replace").rstrip("\n")
            if text.startswith(ERROR):
                self.error = text.removeprefix(ERROR)
            else:
                sys.stderr.write(f"{text}\n")
                sys.stderr.flush()


def _failure(code: int, error: str, out: bytes) -> KitestringError:
    if code == _BAD_INPUT:
        return BadInput(error)
    if out.strip():
        return RunFailed(error, json.loads(out))
    return Permanent(error or f"`kitestring run` ended with exit code {code} and no message: its last lines are above")

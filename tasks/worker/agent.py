"""torchrun's agent for ranks on CPUs: imports the libraries once, then forks the ranks.

    python -m tasks.worker.agent OPTIONS_OF_TORCHRUN --encoder KIND --assignment PATH

Waits for the assignment file if it does not exist yet: the agent may be started before the assignment is known and imports
meanwhile (`tasks.adapters.processes.prestart`). Importing torch and sentence-transformers takes about five seconds of a core, and
ranks that import them separately compete for the cores. A process that has used CUDA must not be forked, so plain torchrun starts
ranks on GPUs (`tasks.adapters.processes.torchrun`).
"""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import sys
import time
from contextlib import suppress
from pathlib import Path

from tasks.adapters.processes.gc_control import importing, leaving
from tasks.worker import __main__ as rank

AGENT_POLL_SECONDS = 0.02


class NoExitBarrier:
    """Replaces torch elastic's exit barrier, which deadlocks when a waiting rank is killed.

    Its `set` never returns if a rank was killed while waiting. A rank's result is in its pipe before it exits, so no rank needs to wait.
    """

    def wait(self) -> bool:
        return True

    def set(self) -> None: ...


def main() -> int:
    """Import the libraries, then run torchrun. Returns 1 if a rank failed, after printing torchrun's table of exit codes."""
    parser = argparse.ArgumentParser(prog="tasks.worker.agent", description="torchrun that imports the ranks' libraries once.")
    parser.add_argument("--encoder", required=True, help="kind of the encoder that the ranks will load")
    parser.add_argument("--assignment", type=Path, required=True, help="JSON file of tasks.domain.encoding.protocol.Assignment")
    arguments, options = parser.parse_known_args()
    with importing():
        from torch.distributed.elastic.multiprocessing.errors import ChildFailedError  # noqa: PLC0415 - torch takes seconds
        from torch.distributed.run import main as torchrun  # noqa: PLC0415 - takes seconds

        from tasks.worker.encoders.registry import import_library  # noqa: PLC0415 - takes seconds

        with suppress(Exception):  # the ranks fail in the same way and report it
            import_library(arguments.encoder)
    multiprocessing.get_context("fork").Event = NoExitBarrier  # type: ignore[assignment]
    gc.freeze()  # the collector does not write to frozen pages, so they stay shared with the ranks
    while not arguments.assignment.exists():  # the parent writes it; this process dies with the parent
        time.sleep(AGENT_POLL_SECONDS)
    try:
        torchrun([*options, "--start-method", "fork", "--run-path", rank.__file__, "--assignment", str(arguments.assignment)])
    except ChildFailedError as failed:
        sys.stderr.write(f"Error: a rank has failed\n{failed}\n")
        return 1
    return 0


if __name__ == "__main__":
    with leaving():
        sys.exit(main())

"""torchrun's agent for ranks on CPUs: what every rank imports is imported once, and the ranks are forked from here.

    python -m tasks.worker.agent OPTIONS_OF_TORCHRUN --encoder KIND --assignment PATH

Where the assignment is not there yet it is waited for: an agent may be started before it is known what the ranks will do, and
imports meanwhile (`tasks.adapters.processes.prestart`). Importing torch and sentence-transformers takes a core some five seconds, and ranks that each do it take the cores from each
other. A process that has spoken to CUDA must not be forked: ranks on GPUs are started by plain torchrun (`tasks.adapters.processes.torchrun`).
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


class Unawaited:
    """Replaces torch elastic's exit barrier, which deadlocks when a waiting rank is killed.

    Its `set` never returns where a rank was killed while it waited. What a rank returns is in its pipe before it ends, so none need wait.
    """

    def wait(self) -> bool:
        return True

    def set(self) -> None: ...


def main() -> int:
    """Import, then be torchrun; 1: a rank failed, and torchrun's own table of exit codes is printed."""
    parser = argparse.ArgumentParser(prog="tasks.worker.agent", description="torchrun, with what its ranks import.")
    parser.add_argument("--encoder", required=True, help="kind of the encoder that the ranks will load")
    parser.add_argument("--assignment", type=Path, required=True, help="JSON file of tasks.domain.encoding.protocol.Assignment")
    arguments, options = parser.parse_known_args()
    with importing():
        from torch.distributed.elastic.multiprocessing.errors import ChildFailedError  # noqa: PLC0415 - torch takes seconds
        from torch.distributed.run import main as torchrun  # noqa: PLC0415 - takes seconds

        from tasks.worker.encoders.registry import import_library  # noqa: PLC0415 - takes seconds

        with suppress(Exception):  # the ranks will meet it too, and report it
            import_library(arguments.encoder)
    multiprocessing.get_context("fork").Event = Unawaited  # type: ignore[assignment]
    gc.freeze()  # pages that no collection touches stay shared with the ranks
    while not arguments.assignment.exists():  # the parent writes it; this process ends with the parent
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

"""A rank's entry.

    python -m torch.distributed.run --standalone --nproc-per-node N -m tasks.worker --assignment PATH

or forked by `tasks.worker.agent`, which has imported these modules already.

Exit codes: 0, no more work, or the coordinator has ended; 1, the encoder cannot be loaded (reported to the coordinator in
one line). An error that no row caused ends the rank with a traceback.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tasks.adapters.processes.gc_control import importing
from tasks.domain.encoding.protocol import Assignment
from tasks.worker.system.signals import set_up_rank_process


def main() -> int:
    set_up_rank_process()
    arguments = argparse.ArgumentParser(prog="tasks.worker", description="One rank of the encoder.")
    arguments.add_argument("--assignment", type=Path, required=True, help="JSON file of tasks.domain.encoding.protocol.Assignment")
    assignment = Assignment.model_validate_json(arguments.parse_args().assignment.read_text())
    with importing():
        from tasks.worker.startup.session import serve  # noqa: PLC0415 - imports torch, which takes seconds

    return serve(assignment)


if __name__ == "__main__":
    sys.exit(main())

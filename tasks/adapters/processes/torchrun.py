"""One launch of torchrun behind a guard: started, watched, ended."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import IO

from tasks.adapters.processes.device_locks import Devices
from tasks.adapters.processes.hardware import Launch
from tasks.adapters.processes.process_guard import start_guarded


class Torchrun:
    """The processes of one launch. Ending it ends them all, within a second.

    Args:
        launch: how many ranks, and what each may use.
        kind: of the encoder: what the ranks will import.
        assignment: the file with their assignment. An agent of ranks on CPUs waits for the file to be there.
        log: the file for their output.
        devices: whose locks the guard is to hold.
    """

    def __init__(self, launch: Launch, kind: str, assignment: Path, log: Path, *, devices: Devices | None = None) -> None:
        self._log: IO[bytes] = log.open("ab")
        self._guard = start_guarded(
            command_of(launch, kind, assignment),
            env=_environment(launch, assignment.parent),
            stdout=self._log.fileno(),
            stderr=self._log.fileno(),
            held=devices.fds if devices else (),
        )
        self.pid = self._guard.pid

    @property
    def is_alive(self) -> bool:
        """Whether some process of it may be."""
        return self._guard.poll() is None

    def wait(self) -> int:
        """Block until every process of the launch has ended; the exit status."""
        return self._guard.wait()

    def end(self) -> None:
        """Close the guard's lifeline and wait for it."""
        if self._guard.stdin and not self._guard.stdin.closed:
            self._guard.stdin.close()
        self._guard.wait()
        self._log.close()


def command_of(launch: Launch, kind: str, assignment: Path) -> list[str]:
    """torchrun: on CPUs by way of an agent that imports for all ranks, on GPUs as it is."""
    options = ["--standalone", "--local-addr", "127.0.0.1", "--nproc-per-node", str(launch.ranks), "--max-restarts", "0"]
    on_gpus = launch.device == "cuda"
    agent, rank = ("torch.distributed.run", ["-m", "tasks.worker"]) if on_gpus else ("tasks.worker.agent", ["--encoder", kind])
    return [sys.executable, "-m", agent, *options, *rank, "--assignment", str(assignment)]


def _environment(launch: Launch, scratch: Path) -> dict[str, str]:
    """The caller's environment, with variables that must be set before torch is imported."""
    # Swept with the run's scratch, whatever ends the launch: torch's elastic agent leaves a folder of logs behind each time. And
    # inductor's cache would be at a known place that others may read.
    private = {"TMPDIR": str(scratch), "TORCHINDUCTOR_CACHE_DIR": str(scratch / "inductor")}
    # A GPU's texts are tokenised with all of the rank's cores, or it would wait for them; on a CPU the model has those already.
    tokenizing = {"TOKENIZERS_PARALLELISM": "true" if launch.device == "cuda" else "false", "RAYON_NUM_THREADS": str(launch.threads)}
    quiet = {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "TORCHELASTIC_ERROR_FILE": os.devnull}
    # oneDNN keeps code for each shape that it meets, 1,024 by default; most batches' shapes do not recur soon.
    # With 256 a rank of all-MiniLM-L6-v2 takes 200 MiB less, and is as fast.
    shapes = {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": os.environ.get("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "256")}
    return {**os.environ, **quiet, **tokenizing, **private, **shapes, "OMP_NUM_THREADS": str(launch.threads), "PYTHONUNBUFFERED": "1"}

"""One launch of torchrun behind a process guard."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import IO

from tasks.adapters.processes.device_locks import Devices
from tasks.adapters.processes.hardware import Launch
from tasks.adapters.processes.process_guard import start_guarded


class Torchrun:
    """The processes of one launch. `end` ends all of them within a second.

    Args:
        launch: number of ranks, and the resources of each.
        kind: the encoder's kind; decides what the ranks import.
        assignment: the file with their assignment. The agent of CPU ranks waits until the file exists.
        log: the file for their output.
        devices: the devices whose locks the guard holds.
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
        """Whether any process of the launch may be running."""
        return self._guard.poll() is None

    def wait(self) -> int:
        """Block until every process of the launch has ended; return the exit status."""
        return self._guard.wait()

    def end(self) -> None:
        """Close the guard's stdin, which ends all processes, and wait for it."""
        if self._guard.stdin and not self._guard.stdin.closed:
            self._guard.stdin.close()
        self._guard.wait()
        self._log.close()


def command_of(launch: Launch, kind: str, assignment: Path) -> list[str]:
    """The command line of a launch: plain torchrun on GPUs; on CPUs an agent that imports the libraries for all ranks."""
    options = ["--standalone", "--local-addr", "127.0.0.1", "--nproc-per-node", str(launch.ranks), "--max-restarts", "0"]
    on_gpus = launch.device == "cuda"
    agent, rank = ("torch.distributed.run", ["-m", "tasks.worker"]) if on_gpus else ("tasks.worker.agent", ["--encoder", kind])
    return [sys.executable, "-m", agent, *options, *rank, "--assignment", str(assignment)]


def _environment(launch: Launch, scratch: Path) -> dict[str, str]:
    """The caller's environment, with variables that must be set before torch is imported."""
    # In the run's scratch, which is always cleaned up: torch's elastic agent leaves a folder of logs behind on each launch, and
    # inductor's cache would be in a predictable place that other users may read.
    private = {"TMPDIR": str(scratch), "TORCHINDUCTOR_CACHE_DIR": str(scratch / "inductor")}
    # Texts for a GPU are tokenised with all cores of the rank, or the GPU would wait; on a CPU the model uses those cores already.
    tokenizing = {"TOKENIZERS_PARALLELISM": "true" if launch.device == "cuda" else "false", "RAYON_NUM_THREADS": str(launch.threads)}
    quiet = {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "TORCHELASTIC_ERROR_FILE": os.devnull}
    # oneDNN caches code for each input shape, 1,024 by default; most batch shapes do not recur soon.
    # With 256 a rank of all-MiniLM-L6-v2 takes 200 MiB less, at the same speed.
    shapes = {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": os.environ.get("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "256")}
    return {**os.environ, **quiet, **tokenizing, **private, **shapes, "OMP_NUM_THREADS": str(launch.threads), "PYTHONUNBUFFERED": "1"}

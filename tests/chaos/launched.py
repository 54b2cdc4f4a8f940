"""A run under way, how it ended, and its processes."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

import psutil

RUN_SECONDS = 240
ROLES = {"guard": "tasks.adapters.processes.process_guard", "agent": "tasks.worker.agent", "flow": "flows"}


class Stuck(Exception):
    """A run did not end in time, or did not come to where it should."""


class Skipped(Exception):
    """This machine cannot do that; says why."""


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a run ended."""

    code: int
    out: str
    err: str


@dataclass(kw_only=True)
class Launched:
    """A run under way."""

    process: subprocess.Popen[bytes]
    out: Path
    err: Path

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def over(self) -> bool:
        return self.process.poll() is not None

    def finish(self, seconds: float = RUN_SECONDS) -> Ended:
        """Wait for it."""
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise Stuck(f"a run has not ended in {seconds} s:\n{self.err.read_text()[-1500:]}") from None
        return Ended(code=code, out=self.out.read_text(), err=self.err.read_text())


def still_there(processes: list[psutil.Process]) -> list[psutil.Process]:
    return [p for p in processes if p.is_running() and status_of(p) != psutil.STATUS_ZOMBIE]


def status_of(process: psutil.Process) -> str:
    try:
        return str(process.status())
    except psutil.NoSuchProcess:
        return psutil.STATUS_ZOMBIE


def role_of(process: psutil.Process) -> str:
    """flow, guard, agent or rank; empty for others."""
    try:
        words, name = process.cmdline(), process.name()
    except psutil.NoSuchProcess:
        return ""
    if name.startswith("ks-rank-"):
        return "rank"
    module = words[words.index("-m") + 1] if "-m" in words[:-1] else ""
    if module == ROLES["guard"]:
        return "guard" if ROLES["agent"] in words else "server's guard"
    return next((role for role, name in ROLES.items() if name == module), "")

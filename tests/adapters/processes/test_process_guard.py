"""The guard ends everything, whatever kills whom."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tasks.adapters.processes.process_guard import TERMINATED_STATUS, _leave_when_closed, start_guarded

# A grandchild in a session of its own, as torch's elastic agent starts its ranks.
FAMILY = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
print(child.pid, flush=True)
time.sleep(60)
"""


def start_family() -> tuple[subprocess.Popen[bytes], list[psutil.Process]]:
    guard = start_guarded([sys.executable, "-c", FAMILY], stdout=subprocess.PIPE)
    assert guard.stdout is not None
    grandchild = psutil.Process(int(guard.stdout.readline()))
    child = grandchild.parent()
    assert child is not None
    assert child.ppid() == guard.pid
    return guard, [child, grandchild]


def all_gone(family: list[psutil.Process]) -> bool:
    return not psutil.wait_procs(family, timeout=5)[1]


def test_closing_its_stdin_ends_every_descendant() -> None:
    guard, family = start_family()
    guard.stdin.close()  # type: ignore[union-attr]
    assert guard.wait(5) == TERMINATED_STATUS
    assert all_gone(family)


def test_a_lifeline_that_cannot_be_read_counts_as_closed(tmp_path: Path) -> None:
    left: list[bool] = []
    folder = os.open(tmp_path, os.O_RDONLY)
    with pytest.raises(IsADirectoryError):
        _leave_when_closed(folder, lambda: left.append(True))
    os.close(folder)
    assert left


def test_sigterm_ends_every_descendant() -> None:
    guard, family = start_family()
    guard.terminate()
    assert guard.wait(5) == TERMINATED_STATUS
    assert all_gone(family)


def test_an_orphan_in_another_session_is_still_ended() -> None:
    guard, (child, grandchild) = start_family()
    child.kill()
    assert guard.wait(5) == 128 + signal.SIGKILL
    assert all_gone([grandchild])


def test_killing_the_guard_kills_the_command() -> None:
    guard, (child, grandchild) = start_family()
    guard.kill()
    guard.wait(5)
    assert all_gone([child])
    grandchild.kill()  # it is the command's own part to die with its parent, as ranks do


def test_kill_9_of_the_holder_ends_all(tmp_path: Path) -> None:
    script = (
        "import subprocess, sys, time\n"
        "from tasks.adapters.processes.process_guard import start_guarded\n"
        f"guard = start_guarded([sys.executable, '-c', {FAMILY!r}], stdout=subprocess.PIPE)\n"
        "print(guard.pid, int(guard.stdout.readline()), flush=True)\n"
        "time.sleep(60)\n"
    )
    holder = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    assert holder.stdout is not None
    family = [psutil.Process(int(pid)) for pid in holder.stdout.readline().split()]
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait(5)
    assert all_gone(family)


@pytest.mark.parametrize("status", [0, 3])
def test_the_commands_status_is_the_guards(status: int) -> None:
    guard = start_guarded([sys.executable, "-c", f"raise SystemExit({status})"])
    assert guard.wait(10) == status

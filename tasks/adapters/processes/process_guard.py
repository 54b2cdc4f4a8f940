"""The process guard: no process outlives the run that started it (the law "No orphans").

    python -m tasks.adapters.processes.process_guard -- COMMAND ...

runs COMMAND and ends it, with all its descendants, when the guard's standard input closes
or on SIGTERM. The parent of a guard holds the other end of that pipe: the kernel closes it however
the parent ends, including kill -9. The guard adopts orphans (PR_SET_CHILD_SUBREAPER), because torch's
elastic agent starts each rank in its own session, which no process group reaches; and COMMAND dies
with the guard (PR_SET_PDEATHSIG), so that killing the guard itself leaves no process either.

All processes are ended with SIGKILL: uncommitted output of a rank is garbage by design, so there is nothing to clean up.
Exits with COMMAND's status, or 143 after SIGTERM. For Linux; elsewhere orphans are not adopted.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

import psutil

PR_SET_PDEATHSIG = 1
PR_SET_NAME = 15
PR_SET_CHILD_SUBREAPER = 36
TERMINATED_STATUS = 143

_terminated = threading.Event()


def _prctl(option: int, value: int | bytes) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent dies; dies at once if the parent is dead already."""
    parent = os.getppid()
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def name_process(name: str) -> None:
    """Set the name that `ps -o comm` and `top` show for this process; only the first 15 bytes are used."""
    _prctl(PR_SET_NAME, name.encode())


def end_descendants() -> None:
    """SIGKILL all descendants of this process, repeatedly until there are none (they may be forking)."""
    while descendants := psutil.Process().children(recursive=True):
        for process in descendants:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        psutil.wait_procs(descendants, timeout=1)


def _leave(_signal: int = 0, _frame: object = None) -> None:
    _terminated.set()
    try:
        end_descendants()
    finally:
        os._exit(TERMINATED_STATUS)  # the command dies with the guard


def _leave_when_closed(stdin: int, leave: Callable[[], None]) -> None:
    try:
        while os.read(stdin, 4096):
            pass
    finally:
        leave()


def start_guarded(
    command: list[str],
    *,
    env: dict[str, str] | None = None,
    stdout: int | None = None,
    stderr: int | None = None,
    held: Collection[int] = (),
) -> subprocess.Popen[bytes]:
    """Start COMMAND behind its own guard; closing the result's stdin ends all its processes.

    The guard has its own session, so that a Ctrl-C for the run does not reach ranks first. It keeps the
    open files `held`, and so their locks, until every process has ended; COMMAND does not inherit them.
    """
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "tasks.adapters.processes.process_guard", "--", *command],
        stdin=subprocess.PIPE,
        stdout=stdout,
        stderr=stderr,
        env=safe_path(os.environ if env is None else env),
        start_new_session=True,
        pass_fds=tuple(held),
    )


def safe_path(env: Mapping[str, str]) -> dict[str, str]:
    """An environment in which a process finds this project's packages, even if its folder has a user's `tasks.py` or `flows.py`.

    `python -m` searches the current folder first, unless PYTHONSAFEPATH is set. A checkout that is not installed is found
    only there, so it is added to PYTHONPATH.
    """
    root = Path(__file__).parents[3]
    ours = [] if root.name in {"site-packages", "dist-packages"} else [str(root)]
    path = os.pathsep.join([*ours, *filter(None, [env.get("PYTHONPATH")])])
    return {**env, "PYTHONSAFEPATH": "1", **({"PYTHONPATH": path} if path else {})}


def main(arguments: list[str]) -> int:
    """Run the command after `--`; return its exit status once all its descendants have ended."""
    if arguments[:1] != ["--"] or not arguments[1:]:
        sys.stderr.write("usage: python -m tasks.adapters.processes.process_guard -- COMMAND ...\n")
        return 2
    _prctl(PR_SET_CHILD_SUBREAPER, 1)
    signal.signal(signal.SIGTERM, _leave)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    child = subprocess.Popen(arguments[1:], stdin=subprocess.DEVNULL, preexec_fn=die_with_parent)  # noqa: PLW1509  no thread runs yet
    threading.Thread(target=_leave_when_closed, args=(0, _leave), daemon=True).start()
    status = child.wait()
    end_descendants()
    if _terminated.is_set():
        return TERMINATED_STATUS
    return status if status >= 0 else 128 - status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

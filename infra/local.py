"""A Prefect server, the deployments and a worker on this machine: `make up`, `make down`.

What is running stands in .kitestring/: a line for each process with its pid and when it started, so that a pid that
now belongs to somebody else is never ended. The server's database is there as well, and stays.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil

from tasks.adapters.processes.process_mark import started_since_boot

ROOT = Path(__file__).parents[1]
STATE = Path(os.environ.get("KITESTRING_STATE", ROOT / ".kitestring"))
PORT = int(os.environ.get("KITESTRING_PORT", "4200"))
UP_SECONDS, DOWN_SECONDS = 180.0, 40.0  # a worker gives its runs 30 s to end
SCHEDULE_SECONDS = 150.0  # the scheduler looks at changed deployments every 5 s, and at all of them every 60 s
PREFECT = [sys.executable, "-m", "prefect"]
SETTINGS = {
    "PREFECT_HOME": str(STATE / "prefect"),
    "PREFECT_API_URL": f"http://127.0.0.1:{PORT}/api",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_SERVICES_SCHEDULER_MAX_RUNS": "10",  # planned ahead; a hundred of each keep SQLite busy at every change
    "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",  # limits survive a restart
    "DO_NOT_TRACK": "1",
}
PROCESSES = {
    "server": ["server", "start", "--host", "127.0.0.1", "--port", str(PORT)],
    "worker": ["worker", "start", "--pool", "kitestring", "--type", "process", "--name", "kitestring"],
}
LOGGED = re.compile(r"\d\d:\d\d:\d\d\.\d+ \| [A-Z]+ +\| |[A-Z]+: ")  # begins an entry; its traceback follows
ERROR = re.compile(
    r"(\S+ \| )?(ERROR|CRITICAL)( +\| (?!Flow run |Task run |kitestring)|: )"
)  # of the process, not of a run that it carries out
BUSY = "database is locked"  # SQLite's, of two writers at once: Prefect logs it as an error, and tries again


def up() -> None:
    """Start what does not run yet, wait until it takes work and its schedules are planned, and say where; exits 1 on errors in the logs."""
    STATE.mkdir(mode=0o700, parents=True, exist_ok=True)
    began, logged = time.monotonic(), {name: log_bytes(name) for name in PROCESSES}
    if not running("server"):
        refuse_a_taken_port()
        say("starting the Prefect server; the first time it makes its database, which takes a minute ...")
        start("server")
    wait(lambda: bool(get("/health")), "server")
    say("installing the pool, the deployments and the automations ...")
    subprocess.run([sys.executable, "deployments/install.py", "process"], cwd=ROOT, env=environment(), check=True)
    if not running("worker"):
        say("starting the worker ...")
        start("worker")
    wait(worker_is_online, "worker")
    say("waiting for the first schedules ...")
    wait_for_schedules(logged)
    say(f"\nup in {time.monotonic() - began:.0f} s: http://127.0.0.1:{PORT}/deployments")
    say("Choose backfill, then Run: 24 sentences about kites, into ./kitestring.db. `make down` ends it all.")


def down() -> None:
    """End the worker, which ends its runs, and then the server."""
    for name in reversed(PROCESSES):
        process = running(name)
        if process is not None:
            end(process)
            say(f"{name} ended")
        pid_file(name).unlink(missing_ok=True)


def start(name: str) -> None:
    """In a session of its own, so that closing the terminal does not end it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # where it is ignored, as in a script's background, a worker would not end
    with log_file(name).open("ab") as log:
        process = subprocess.Popen(
            [*PREFECT, *PROCESSES[name]],
            cwd=ROOT,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    pid_file(name).write_text(json.dumps({"pid": process.pid, "started": started_since_boot(process.pid)}))


def end(process: psutil.Process) -> None:
    """SIGTERM, and SIGKILL for what is still there after a while; its children as well."""
    family = [process, *process.children(recursive=True)]
    process.terminate()
    for survivor in left_after(DOWN_SECONDS, family):
        with contextlib.suppress(psutil.NoSuchProcess):
            survivor.kill()
    left_after(5, family)


def left_after(seconds: float, family: list[psutil.Process]) -> list[psutil.Process]:
    """Who still lives after so long at most. Zombies do not: the first process of a container may never collect them."""
    deadline = time.monotonic() + seconds
    while (left := [process for process in family if lives(process)]) and time.monotonic() < deadline:
        time.sleep(0.1)
    return left


def lives(process: psutil.Process) -> bool:
    """Whether it has not ended."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def running(name: str) -> psutil.Process | None:
    """The process that was started under this name, if it is that one and lives."""
    try:
        noted = json.loads(pid_file(name).read_text())
        process = psutil.Process(noted["pid"])
        same = started_since_boot(process.pid) == noted["started"]
    except (FileNotFoundError, ValueError, psutil.NoSuchProcess):
        return None
    return process if same and lives(process) else None


def refuse_a_taken_port() -> None:
    """Before a server is started that would only say so in its log."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", PORT))
        except OSError:
            sys.exit(f"port {PORT} is taken: KITESTRING_PORT=4201 make up takes another")


def wait(ready: Callable[[], bool], name: str) -> None:
    """Until it is ready; a process that ends before that is told with its last lines."""
    deadline = time.monotonic() + UP_SECONDS
    while not ready():
        if running(name) is None or time.monotonic() > deadline:
            last = "\n".join(log_file(name).read_text(errors="replace").splitlines()[-5:])
            sys.exit(f"the {name} did not come up, see {log_file(name)}:\n{last}")
        time.sleep(0.2)


def worker_is_online() -> bool:
    """Whether the server has heard of it."""
    return any(worker["status"] == "ONLINE" for worker in get("/work_pools/kitestring/workers/filter", {}) or [])


def wait_for_schedules(logged: dict[str, int]) -> None:
    """Until every schedule has an upcoming run: installing removed those of before, so the scheduler works. Errors in a log end it."""
    deadline = time.monotonic() + SCHEDULE_SECONDS
    while True:
        waiting = unscheduled()
        refuse_errors(logged)  # after the question: what the scheduler's first beat logged is seen
        if waiting is not None and not waiting:
            return
        if time.monotonic() > deadline:
            missing = ", ".join(waiting or ["any deployment"])
            sys.exit(f"the server scheduled no run of {missing} within {SCHEDULE_SECONDS:.0f} s, see {log_file('server')}")
        time.sleep(0.2)


def unscheduled() -> list[str] | None:
    """Our deployments with an active schedule and no upcoming run; None where the server does not answer."""
    deployments = get("/deployments/filter", {"deployments": {"tags": {"all_": ["kitestring"]}}})
    if deployments is None:
        return None
    active = [found for found in deployments if not found["paused"] and any(schedule["active"] for schedule in found["schedules"])]
    return [found["name"] for found in active if not upcoming(found["id"])]


def upcoming(deployment: str) -> int:
    """How many runs of it the scheduler has planned."""
    planned = {"state": {"type": {"any_": ["SCHEDULED"]}}}
    return int(get("/flow_runs/count", {"deployments": {"id": {"any_": [deployment]}}, "flow_runs": planned}) or 0)


def refuse_errors(logged: dict[str, int]) -> None:
    """Exit with the first errors that the logs got since they had so many bytes."""
    for name, before in logged.items():
        with log_file(name).open("rb") as log:
            log.seek(before)
            found = errors_of(log.read().decode(errors="replace"))
        if found:
            shown = "\n".join(found[:3])
            sys.exit(f"the {name} logs errors, see {log_file(name)}; it still runs, `make down` ends it:\n{shown}")


def errors_of(log: str) -> list[str]:
    """Each error of a log in one line: what was logged, and the last line of its traceback."""
    entries = list[list[str]]()
    for line in filter(str.strip, log.splitlines()):
        if LOGGED.match(line) or not entries:
            entries.append([])
        entries[-1].append(line.strip())
    errors = (lines for lines in entries if ERROR.match(lines[0]) and not any(BUSY in line for line in lines))
    return [": ".join([lines[0], *lines[1:][-1:]]) for lines in errors]


def get(path: str, body: dict[str, Any] | None = None) -> Any:
    """The server's answer; None where there is none."""
    data = None if body is None else json.dumps(body).encode()
    ask = urllib.request.Request(f"{SETTINGS['PREFECT_API_URL']}{path}", data=data, headers={"Content-Type": "application/json"})  # noqa: S310  the loopback
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(ask, timeout=5) as answer:
            return json.load(answer)
    except (urllib.error.URLError, OSError):
        return None


def environment() -> dict[str, str]:
    """The user's, less any Prefect settings of theirs: this server is on its own."""
    return {**{name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}, **SETTINGS}


def log_file(name: str) -> Path:
    """Where a process writes what it says."""
    return STATE / f"{name}.log"


def log_bytes(name: str) -> int:
    """How much it has written."""
    return log_file(name).stat().st_size if log_file(name).exists() else 0


def pid_file(name: str) -> Path:
    """Where a process is noted."""
    return STATE / f"{name}.pid"


def say(what: str) -> None:
    """For who waits."""
    sys.stdout.write(f"{what}\n")
    sys.stdout.flush()


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Of two calls at once the second waits."""
    STATE.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (STATE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


if __name__ == "__main__":
    commands = {"up": up, "down": down}
    if sys.argv[1:] not in [["up"], ["down"]]:
        sys.exit("usage: python infra/local.py up|down")
    with alone():
        commands[sys.argv[1]]()

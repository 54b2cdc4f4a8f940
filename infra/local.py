"""A Prefect server, the deployments and a worker on this machine: `make up`, `make down`.

.kitestring/ has a file for each running process with its pid and start time, so that a reused pid is never killed. It also has the
server's database, which `make down` keeps.
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
UP_SECONDS, DOWN_SECONDS = 180.0, 40.0  # a worker allows its runs 30 s to end
SCHEDULE_SECONDS = 150.0  # the scheduler checks changed deployments every 5 s, and all of them every 60 s
PREFECT = [sys.executable, "-m", "prefect"]
SETTINGS = {
    "PREFECT_HOME": str(STATE / "prefect"),
    "PREFECT_API_URL": f"http://127.0.0.1:{PORT}/api",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_SERVICES_SCHEDULER_MAX_RUNS": "10",  # per deployment; a hundred each would keep SQLite busy at every change
    "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",  # limits survive a restart
    "DO_NOT_TRACK": "1",
}
PROCESSES = {
    "server": ["server", "start", "--host", "127.0.0.1", "--port", str(PORT)],
    "worker": ["worker", "start", "--pool", "kitestring", "--type", "process", "--name", "kitestring"],
}
LOGGED = re.compile(r"\d\d:\d\d:\d\d\.\d+ \| [A-Z]+ +\| |[A-Z]+: ")  # start of an entry; a traceback may follow
ERROR = re.compile(r"(\S+ \| )?(ERROR|CRITICAL)( +\| (?!Flow run |Task run |kitestring)|: )")  # errors of the process, not of its runs
BUSY = "database is locked"  # SQLite's error for two writers at once: Prefect logs it as an error and retries


def up() -> None:
    """Start server and worker if necessary, wait until schedules are planned, and print the address; exit 1 on errors in the logs."""
    STATE.mkdir(mode=0o700, parents=True, exist_ok=True)
    began, logged = time.monotonic(), {name: log_bytes(name) for name in PROCESSES}
    if not running("server"):
        check_port()
        say("starting the Prefect server; the first start creates its database, which takes a minute ...")
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
    say("Choose backfill, then Run: 24 sentences about kites, into ./kitestring.db. `make down` stops everything.")


def down() -> None:
    """Stop the worker, which stops its runs, and then the server."""
    for name in reversed(PROCESSES):
        process = running(name)
        if process is not None:
            end(process)
            say(f"{name} stopped")
        pid_file(name).unlink(missing_ok=True)


def start(name: str) -> None:
    """Start a process in its own session, so that closing the terminal does not end it."""
    signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # if inherited as ignored, as in a script's background job, a worker would not stop
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
    """Send SIGTERM to a process; send SIGKILL to it and its children if they still run after DOWN_SECONDS."""
    family = [process, *process.children(recursive=True)]
    process.terminate()
    for survivor in wait_until_ended(DOWN_SECONDS, family):
        with contextlib.suppress(psutil.NoSuchProcess):
            survivor.kill()
    wait_until_ended(5, family)


def wait_until_ended(seconds: float, family: list[psutil.Process]) -> list[psutil.Process]:
    """Wait for processes to end; return those that still run. Zombies count as ended: PID 1 of a container may never reap them."""
    deadline = time.monotonic() + seconds
    while (left := [process for process in family if is_alive(process)]) and time.monotonic() < deadline:
        time.sleep(0.1)
    return left


def is_alive(process: psutil.Process) -> bool:
    """Return whether the process has not ended."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def running(name: str) -> psutil.Process | None:
    """Return the process that was started under this name if it is still the same one and alive."""
    try:
        record = json.loads(pid_file(name).read_text())
        process = psutil.Process(record["pid"])
        same = started_since_boot(process.pid) == record["started"]
    except (FileNotFoundError, ValueError, psutil.NoSuchProcess):
        return None
    return process if same and is_alive(process) else None


def check_port() -> None:
    """Exit if the port is in use: the server would report that only in its log."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", PORT))
        except OSError:
            sys.exit(f"port {PORT} is in use: choose another one, as in KITESTRING_PORT=4201 make up")


def wait(ready: Callable[[], bool], name: str) -> None:
    """Wait until a process is ready; exit with its last log lines if it ends first or takes too long."""
    deadline = time.monotonic() + UP_SECONDS
    while not ready():
        if running(name) is None or time.monotonic() > deadline:
            last = "\n".join(log_file(name).read_text(errors="replace").splitlines()[-5:])
            sys.exit(f"the {name} did not come up, see {log_file(name)}:\n{last}")
        time.sleep(0.2)


def worker_is_online() -> bool:
    """Return whether the server reports the worker as online."""
    return any(worker["status"] == "ONLINE" for worker in get("/work_pools/kitestring/workers/filter", {}) or [])


def wait_for_schedules(logged: dict[str, int]) -> None:
    """Wait until every schedule has an upcoming run: installing removed earlier ones, so the scheduler works. Exit on logged errors."""
    deadline = time.monotonic() + SCHEDULE_SECONDS
    while True:
        pending = unscheduled()
        exit_on_errors(logged)  # after the request, so that errors of the scheduler's first loop are seen
        if pending is not None and not pending:
            return
        if time.monotonic() > deadline:
            missing = ", ".join(pending or ["any deployment"])
            sys.exit(f"the server scheduled no run of {missing} within {SCHEDULE_SECONDS:.0f} s, see {log_file('server')}")
        time.sleep(0.2)


def unscheduled() -> list[str] | None:
    """Return Kitestring's deployments with an active schedule and no upcoming run; None if the server does not answer."""
    deployments = get("/deployments/filter", {"deployments": {"tags": {"all_": ["kitestring"]}}})
    if deployments is None:
        return None
    active = [each for each in deployments if not each["paused"] and any(schedule["active"] for schedule in each["schedules"])]
    return [each["name"] for each in active if not upcoming(each["id"])]


def upcoming(deployment: str) -> int:
    """Return the number of scheduled runs of a deployment."""
    planned = {"state": {"type": {"any_": ["SCHEDULED"]}}}
    return int(get("/flow_runs/count", {"deployments": {"id": {"any_": [deployment]}}, "flow_runs": planned}) or 0)


def exit_on_errors(logged: dict[str, int]) -> None:
    """Exit with the first errors in the logs after the given sizes in bytes."""
    for name, before in logged.items():
        with log_file(name).open("rb") as log:
            log.seek(before)
            errors = errors_of(log.read().decode(errors="replace"))
        if errors:
            first = "\n".join(errors[:3])
            sys.exit(f"the {name} logs errors, see {log_file(name)}; it still runs, `make down` stops it:\n{first}")


def errors_of(log: str) -> list[str]:
    """Return each error of a log in one line: the message, and the last line of its traceback."""
    entries = list[list[str]]()
    for line in filter(str.strip, log.splitlines()):
        if LOGGED.match(line) or not entries:
            entries.append([])
        entries[-1].append(line.strip())
    errors = (lines for lines in entries if ERROR.match(lines[0]) and not any(BUSY in line for line in lines))
    return [": ".join([lines[0], *lines[1:][-1:]]) for lines in errors]


def get(path: str, body: dict[str, Any] | None = None) -> Any:
    """Return the server's answer; None if it does not answer."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{SETTINGS['PREFECT_API_URL']}{path}", data=data, headers={"Content-Type": "application/json"})  # noqa: S310 - loopback only
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=5) as answer:
            return json.load(answer)
    except (urllib.error.URLError, OSError):
        return None


def environment() -> dict[str, str]:
    """Return the user's environment with this server's settings instead of the user's Prefect settings."""
    return {**{name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}, **SETTINGS}


def log_file(name: str) -> Path:
    """Return the log file of a process."""
    return STATE / f"{name}.log"


def log_bytes(name: str) -> int:
    """Return the size of its log in bytes."""
    return log_file(name).stat().st_size if log_file(name).exists() else 0


def pid_file(name: str) -> Path:
    """Return the file with the pid of a process."""
    return STATE / f"{name}.pid"


def say(message: str) -> None:
    """Print a message at once."""
    sys.stdout.write(f"{message}\n")
    sys.stdout.flush()


@contextlib.contextmanager
def locked() -> Iterator[None]:
    """Hold the lock of the state folder, so that a concurrent call waits."""
    STATE.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (STATE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


if __name__ == "__main__":
    commands = {"up": up, "down": down}
    if sys.argv[1:] not in [["up"], ["down"]]:
        sys.exit("usage: python infra/local.py up|down")
    with locked():
        commands[sys.argv[1]]()

"""The real command line, with a note of when each step of a run began and ended.

    python -m tests.benchmarks.traced MARKS.json run JOB

does what `kitestring run JOB` does, and writes seconds since the process was created to MARKS.json, and the most memory that this process
held in each stage (MiB: its own, and of mapped files).
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil

BEGAN = psutil.Process().create_time()
marks: dict[str, Any] = {"main": time.time() - BEGAN}
stages: list[str] = []  # under way


def note(name: str, *, again: bool = False) -> None:
    """Remember when something happened for the first time, or for the last."""
    if again or name not in marks:
        marks[name] = time.time() - BEGAN


def cpu_seconds() -> float:
    """What this process and those below it have used so far."""
    used = 0.0
    for process in [psutil.Process(), *psutil.Process().children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            used += times.user + times.system + times.children_user + times.children_system
    return used


def around(owner: Any, method: str, before: str | None = None, after: str | None = None) -> None:
    """Note when a method was first called, and when it last returned."""
    original = getattr(owner, method)

    @functools.wraps(original)
    def noted(*arguments: Any, **settings: Any) -> Any:
        if before:
            note(before)
        result = original(*arguments, **settings)
        if after:
            note(after, again=True)
        return result

    setattr(owner, method, noted)


def watch_ranks() -> None:
    from tasks.adapters.processes.coordinator import Coordinator  # noqa: PLC0415
    from tasks.adapters.processes.supervisor import LaunchSupervisor  # noqa: PLC0415 - after BEGAN

    take: Callable[..., None] = Coordinator._take

    def taken(self: Coordinator, link: Any, message: Any) -> None:
        kind = type(message).__name__
        if kind == "Hello":
            note("rank ready", again=not marks.get("first rows"))  # of the last one; a rank that comes back is no start-up
            marks[f"rank {message.rank}"] = message.seconds
            marks["CPU seconds until ready"] = cpu_seconds()
        elif kind == "Done" or (kind == "Heartbeat" and message.done):
            note("first rows")
            note("last rows", again=True)
        take(self, link, message)

    Coordinator._take = taken  # type: ignore[method-assign]
    around(LaunchSupervisor, "_start_in_turn", before="ranks started")
    around(Coordinator, "close", before="ranks closing", after="ranks closed")


def watch_store() -> None:
    from tasks.adapters.object_store.folder_store import FolderStore  # noqa: PLC0415

    read = FolderStore.read

    def counted(self: FolderStore, key: str) -> bytes | None:
        data = read(self, key)
        marks["checkpoint bytes read"] = marks.get("checkpoint bytes read", 0) + len(data or b"")
        return data

    FolderStore.read = counted  # type: ignore[method-assign]


def watch_stages() -> None:
    from tasks.run.progress import Journal  # noqa: PLC0415

    during = Journal.during

    @contextlib.contextmanager
    def noted(self: Journal, stage: str) -> Iterator[None]:
        note(f"{stage} began")
        if stage == "verify":
            marks["CPU seconds until verify"] = cpu_seconds()
        stages.append(stage)  # several at a time, and one in several threads
        try:
            with during(self, stage):
                yield
        finally:
            stages.remove(stage)

    Journal.during = noted  # type: ignore[method-assign]
    around(Journal, "note_load", after="last load")


def watch_memory() -> None:
    marks["memory by stage"] = {}

    def sample() -> None:
        while True:
            told = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
            own, mapped = (int(told[name].split()[0]) >> 10 for name in ("RssAnon", "RssFile"))
            names = " and ".join(sorted({*stages})) or "none"
            peaks: dict[str, tuple[int, int]] = marks["memory by stage"]
            marks["memory by stage"] = {**peaks, names: max(peaks.get(names, (0, 0)), (own, mapped))}  # anew: it may be written just now
            time.sleep(0.1)

    threading.Thread(target=sample, daemon=True).start()


def watch_command() -> None:
    import flows.command_line.cli  # noqa: PLC0415
    from tasks.adapters.prefect.private_server import PrivateServer  # noqa: PLC0415

    marks["command line read"] = time.time() - BEGAN
    around(PrivateServer, "__init__", before="server started")
    around(PrivateServer, "wait", before="Prefect imported", after="server up")
    around(PrivateServer, "stop", before="flow returned", after="server stopped")
    around(flows.command_line.cli, "run_flow", after="run over")


def watch_report() -> None:
    """Called late: what a flow imports is not to be imported earlier than a run does."""
    from tasks.adapters.prefect import private_server  # noqa: PLC0415

    waited = private_server.PrivateServer.wait

    def wait(self: Any, *arguments: Any) -> None:
        waited(self, *arguments)
        import tasks.adapters.milvus.milvus_collection  # noqa: PLC0415
        import tasks.run.context  # noqa: PLC0415
        import tasks.run.preflight  # noqa: PLC0415
        import tasks.stages.report  # noqa: PLC0415

        around(tasks.adapters.milvus.milvus_collection.MilvusCollection, "flush_and_index", after="settled")

        around(tasks.run.context, "inspect_job", before="looked at the job", after="job looked at")
        around(tasks.stages.report, "render_report", before="report began", after="report drawn")

    private_server.PrivateServer.wait = wait  # type: ignore[method-assign]


def main() -> None:
    where, *command = sys.argv[1:]

    def write() -> None:
        note("ended")
        Path(where).write_text(json.dumps(marks))

    watch_command()
    watch_report()
    watch_ranks()
    watch_stages()
    watch_store()
    watch_memory()
    import flows.command_line.cli  # noqa: PLC0415

    app = flows.command_line.cli.app

    def noted() -> None:
        atexit.register(write)  # not before: what the command registers first ends the process
        app()

    flows.command_line.cli.app = noted  # type: ignore[assignment]
    sys.argv[1:] = command
    flows.command_line.cli.main()


if __name__ == "__main__":
    main()

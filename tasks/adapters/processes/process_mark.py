"""Whether a process that left its mark somewhere is still there."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from functools import cache
from pathlib import Path

import psutil

from tasks.domain.digest import digest
from tasks.domain.shards.import_attempt import ProcessMark

CLOCK_SECONDS = 60.0  # a machine's clock may be set while a process is at work, and its start is told by that clock


def this_process() -> ProcessMark:
    """The mark of this process."""
    process = psutil.Process()
    return ProcessMark(host=_host(), pid=process.pid, started=process.create_time())


def has_ended(mark: ProcessMark) -> bool:
    """Whether the process is known to have ended; never of another machine or container, whose processes nobody here sees."""
    if mark.host != _host():
        return False
    try:
        process = psutil.Process(mark.pid)
        return abs(process.create_time() - mark.started) > CLOCK_SECONDS or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@cache
def _host() -> str:
    boot = namespace = ""
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        namespace = str(Path("/proc/self/ns/pid").readlink())
    return digest({"name": socket.gethostname(), "boot": boot or psutil.boot_time(), "processes": namespace or os.name})

"""Whether a process that left its mark somewhere is still there."""

from __future__ import annotations

import os
import socket
import time
from contextlib import suppress
from functools import cache
from pathlib import Path

import psutil

from tasks.domain.digest import digest
from tasks.domain.shards.import_attempt import ProcessMark

CLOCK_SECONDS = 60.0  # older marks hold wall-clock start times, and the clock may be set while a process runs
KERNEL_TICK_SECONDS = 0.001  # start times come in hundredths of a second


def this_process() -> ProcessMark:
    """The mark of this process."""
    process = psutil.Process()
    return ProcessMark(host=_host(), pid=process.pid, started=process.create_time(), since_boot=started_since_boot(process.pid))


def is_this_process(mark: ProcessMark) -> bool:
    """Whether the mark is this process' own."""
    return mark.host == _host() and mark.pid == os.getpid() and _is_same(psutil.Process(), mark)


def has_ended(mark: ProcessMark) -> bool:
    """Whether the process is known to have ended; never of another machine or container, whose processes are not visible here."""
    if mark.host != _host():
        return False
    try:
        process = psutil.Process(mark.pid)
        return not _is_same(process, mark) or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def _is_same(process: psutil.Process, mark: ProcessMark) -> bool:
    if mark.since_boot is not None:
        return abs(started_since_boot(process.pid) - mark.since_boot) < KERNEL_TICK_SECONDS
    return abs(process.create_time() - mark.started) <= CLOCK_SECONDS


def started_since_boot(pid: int) -> float:
    """When a process started, in seconds since the machine did: no clock that is set meanwhile changes it.

    Raises:
        psutil.NoSuchProcess: there is none.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:
        raise psutil.NoSuchProcess(pid) from None
    return int(fields[19]) / os.sysconf("SC_CLK_TCK")


def seconds_alive(pid: int) -> float:
    """For how long a process has been there.

    Raises:
        psutil.NoSuchProcess: there is none.
    """
    return time.clock_gettime(time.CLOCK_BOOTTIME) - started_since_boot(pid)


@cache
def _host() -> str:
    boot = namespace = ""
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        namespace = str(Path("/proc/self/ns/pid").readlink())
    return digest({"name": socket.gethostname(), "boot": boot or psutil.boot_time(), "processes": namespace or os.name})

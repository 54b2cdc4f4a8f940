"""Process marks: identify a process, and tell later whether it has ended."""

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

CLOCK_SECONDS = 60.0  # tolerance for older marks with wall-clock start times: the clock may be set while a process runs
KERNEL_TICK_SECONDS = 0.001  # tolerance; start times have a resolution of a hundredth of a second


def this_process() -> ProcessMark:
    """The mark of this process."""
    process = psutil.Process()
    return ProcessMark(host=_host(), pid=process.pid, started=process.create_time(), since_boot=started_since_boot(process.pid))


def is_this_process(mark: ProcessMark) -> bool:
    """Whether the mark is that of this process."""
    return mark.host == _host() and mark.pid == os.getpid() and _is_same(psutil.Process(), mark)


def has_ended(mark: ProcessMark) -> bool:
    """Whether the process is known to have ended; False for other machines and containers, whose processes are not visible here."""
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
    """When a process started, in seconds since boot, which is independent of clock adjustments.

    Raises:
        psutil.NoSuchProcess: there is no such process.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:
        raise psutil.NoSuchProcess(pid) from None
    return int(fields[19]) / os.sysconf("SC_CLK_TCK")


def seconds_alive(pid: int) -> float:
    """The age of a process in seconds.

    Raises:
        psutil.NoSuchProcess: there is no such process.
    """
    return time.clock_gettime(time.CLOCK_BOOTTIME) - started_since_boot(pid)


@cache
def _host() -> str:
    boot = namespace = ""
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        namespace = str(Path("/proc/self/ns/pid").readlink())
    return digest({"name": socket.gethostname(), "boot": boot or psutil.boot_time(), "processes": namespace or os.name})

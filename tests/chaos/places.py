"""Faults of what is stored and of the machine: parts, source files, disks, clocks."""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path

import pyarrow.parquet as pq

from tests.chaos.corpus import ROWS, corpus_table
from tests.chaos.kills import kill_flow
from tests.chaos.launched import Skipped
from tests.chaos.trial import Trial


def source_changes(trial: Trial) -> bool:
    """A source file becomes another one during a run: its shard is refused or of one version, never mixed."""
    run = trial.start()
    if not trial.reach(run, trial.rng.choice(("start", "start", "encode"))):
        trial.end(run)
        return False
    path = trial.rng.choice(trial.files_now)
    fresh = trial.folder / "fresh.parquet"
    pq.write_table(corpus_table(int(path.stem), marked="again"), fresh)
    if trial.rng.random() < 0.5:
        fresh.replace(path)
    else:
        path.write_bytes(fresh.read_bytes())  # in place: a reader in the middle sees both
    trial.end(run)
    trial.replaced += 1
    trial.again = True
    return True


def disk_full(trial: Trial) -> bool:
    """The scratch disk is full, from the start or in the middle: the run says so and fails; with room again the next one goes on."""
    trial.extra_allowed += ROWS * trial.files  # what is encoded, and then cannot be written
    small = trial.rng.random() < 0.3
    tmp = trial.tmp  # another machine may have another one in the end
    _mount(tmp, 16 if small else 64 << 10)
    try:
        run = trial.start()
        if not small:  # another program takes the rest of it
            after = trial.rng.randint(1, 2 * trial.files)
            trial.notes.append(f"full after {after} parts")
            trial.until(lambda: trial.state()["part"] >= after, run)
            fill(tmp / "another program's")
        ended = trial.end(run)
        well = ended.code == 0 or (ended.code == 1 and "no room left" in ended.err)
        trial.insist(well, f"a full disk ended with {ended.code}: {ended.err[-800:]}")
    finally:
        subprocess.run(["umount", "--lazy", tmp], check=True)
    return ended.code == 1


def fill(path: Path) -> None:
    """Write until there is no room."""
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(b"x" * 4096)


def _mount(folder: Path, kilobytes: int) -> None:
    command = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        raise Skipped("a small disk can be mounted by root only")


def machine_replaced(trial: Trial) -> bool:
    """kill -9, and the next run is on another machine: another name, an empty home, empty scratch."""
    struck = kill_flow(trial)
    trial.move()
    trial.again = True
    if os.geteuid() == 0:
        trial.wrap = ("unshare", "--uts", "sh", "-c", 'hostname another && exec "$@"', "sh")
    else:
        trial.more_environment |= {"HOSTNAME": "another"}
    return struck


def clock_jumps(trial: Trial) -> bool:
    """The wall clock jumps by minutes or days, forwards or backwards, in the middle of a run."""
    moved = trial.folder / "clock"
    moved.write_text("0\n")
    trial.more_environment |= {"LD_PRELOAD": str(_moving_clock(trial.house.folder)), "CHAOS_CLOCK": str(moved)}
    run = trial.start()
    struck = trial.reach(run)
    jump = trial.rng.choice((3 * 86_400, -3 * 86_400, 2_400, -2_400))
    moved.write_text(f"{jump}\n")
    trial.notes.append(f"by {jump} s")
    ended = trial.end(run)
    for name in ("LD_PRELOAD", "CHAOS_CLOCK"):
        trial.more_environment.pop(name)
    trial.insist(not ended.code, f"a clock that jumped failed a run: {ended.err[-800:]}")
    return struck


def _moving_clock(folder: Path) -> Path:
    """The library that moves the clock of a process, built once."""
    library = folder / "clock.so"
    compiler = shutil.which("cc")
    if compiler is None:
        raise Skipped("no C compiler, and no other way to move a process' clock alone")
    if not library.exists():
        source = Path(__file__).with_name("clock.c")
        subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
    return library

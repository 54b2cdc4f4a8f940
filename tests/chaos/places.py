"""Faults of what is stored and of the machine: parts, source files, disks, clocks."""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path

import pyarrow.parquet as pq

from tests.chaos.corpus import PART_ROWS, ROWS, corpus_table
from tests.chaos.house import BUCKET
from tests.chaos.kills import kill_flow
from tests.chaos.trial import Skipped, Stuck, Trial


def part_damaged(trial: Trial) -> bool:
    """A sealed part is truncated, changed by a byte, or gone: found before it is loaded, or by the proof."""
    first = trial.run()
    if first.code:
        raise Stuck(f"an unbroken run failed: {first.err[-500:]}")
    key = trial.rng.choice(sorted(key for key in trial.house.keys(trial.prefix) if "/part-" in key))
    trial.notes.append(damage(trial, key))
    trial.extra_allowed = PART_ROWS + 1
    to_load = trial.rng.random() < 0.6
    if to_load:
        shutil.rmtree(trial.target)  # the collection is gone, so everything has to be loaded again
    ended = trial.run()
    told = key.rsplit("/", 1)[1] in ended.err
    if to_load and (ended.code or not told):
        raise Stuck(f"a damaged part was not mended by the run that loads it: {ended.code} {ended.err[-500:]}")
    if not to_load and (not ended.code or not told):
        raise Stuck(f"a damaged part was not found by the proof: {ended.code} {ended.err[-500:]}")
    return True


def damage(trial: Trial, key: str) -> str:
    """Break an object; how."""
    data = trial.house.get(key)
    how = trial.rng.choice(("truncated", "flipped", "gone"))
    at = trial.rng.randrange(len(data))
    if how == "truncated":
        trial.house.put(key, data[:at])
    elif how == "flipped":
        trial.house.put(key, data[:at] + bytes([data[at] ^ (1 << trial.rng.randrange(8))]) + data[at + 1 :])
    else:
        trial.house.client.delete_object(Bucket=BUCKET, Key=key)
    return f"{how} at {at} of {len(data)}"


def source_changes(trial: Trial) -> bool:
    """A source file becomes another one during a run: its shard is refused or of one version, never mixed."""
    run = trial.start()
    if not trial.reach(run, trial.rng.choice(("start", "start", "encode"))):
        trial.end(run)
        return False
    path = trial.rng.choice(sorted(trial.source.glob("*.parquet")))
    fresh = trial.folder / "fresh.parquet"
    pq.write_table(corpus_table(int(path.stem), marked="again"), fresh)
    if trial.rng.random() < 0.5:
        fresh.replace(path)
    else:
        path.write_bytes(fresh.read_bytes())  # in place: a reader in the middle sees both
    trial.end(run)
    trial.replaced, trial.again = 1, True
    return True


def disk_full(trial: Trial) -> bool:
    """The scratch disk is full, from the start or in the middle: the run says so and fails; with room again the next one goes on."""
    trial.extra_allowed = ROWS * trial.files  # what is encoded, and then cannot be written
    small = trial.rng.random() < 0.3
    _mount(trial.tmp, 16 if small else 64 << 10)
    try:
        run = trial.start()
        if not small:  # another program takes the rest of it
            after = trial.rng.randint(1, 2 * trial.files)
            trial.notes.append(f"full after {after} parts")
            trial.until(lambda: trial.state()["part"] >= after, run)
            fill(trial.tmp / "another program's")
        ended = trial.end(run)
        if ended.code not in {0, 1} or (ended.code and "no room left" not in ended.err):
            raise Stuck(f"a full disk ended with {ended.code}: {ended.err[-800:]}")
    finally:
        subprocess.run(["umount", "--lazy", trial.tmp], check=True)
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
        trial.more_environment = {"HOSTNAME": "another"}
    return struck


def clock_jumps(trial: Trial) -> bool:
    """The wall clock jumps by minutes or days, forwards or backwards, in the middle of a run."""
    moved = trial.folder / "clock"
    moved.write_text("0\n")
    trial.more_environment = {"LD_PRELOAD": str(_moving_clock(trial.house.folder)), "CHAOS_CLOCK": str(moved)}
    run = trial.start()
    struck = trial.reach(run)
    jump = trial.rng.choice((3 * 86_400, -3 * 86_400, 2_400, -2_400))
    moved.write_text(f"{jump}\n")
    trial.notes.append(f"by {jump} s")
    ended = trial.end(run)
    trial.more_environment = {}
    if ended.code:
        raise Stuck(f"a clock that jumped failed a run: {ended.err[-800:]}")
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


def overlapping_corpora(trial: Trial) -> bool:
    """Two corpora that share rows go into one collection at the same time; each row is there once, and the last run is proved."""
    trial.target = trial.house.milvus.uri
    shared = trial.folder / "other" / "rows"
    shared.mkdir(parents=True)
    for number, path in enumerate(sorted(trial.source.glob("*.parquet"))):
        if number % 2:
            shutil.copy(path, shared / f"{number}.parquet")
    trial.extra_allowed = ROWS * trial.files
    job = trial.job(corpus="other", source__uri=str(shared), checkpoint=f"s3://{BUCKET}/other-{trial.prefix}")
    both = [trial.start(), trial.start(job=job)]
    ended = [trial.end(run) for run in both]
    if any(run.code not in {0, 1} for run in ended):
        raise Stuck(f"two corpora in one collection: {[(run.code, run.err[-400:]) for run in ended]}")
    trial.again = True
    trial.notes.append(f"ended {[run.code for run in ended]}")
    return True

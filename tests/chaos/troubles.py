"""Faults in front of Milvus and of the source: refusals, delays, uploads and downloads that tear."""

from __future__ import annotations

import time
from collections.abc import Callable

import psutil

from tests.chaos.corpus import ROWS
from tests.chaos.house import BUCKET
from tests.chaos.launched import Launched
from tests.chaos.trial import ROOT, Trial
from tests.servers.milvus_proxy import QUOTA, RATE_LIMIT, Script, Trouble

TOO_LATE = 31.0  # seconds: longer than a call waits for its answer

# Files of a trial are small: what makes every put of one an upload in pieces. Python imports this first in each process.
SMALL_PIECES = """
from tasks.adapters.object_store import s3_store
s3_store.MULTIPART_BYTES = 1_000
"""


def milvus_limits_the_rate(trial: Trial) -> bool:
    """Half of the upserts of some seconds are answered with code 8."""
    over = trial.rng.uniform(2, 15)
    began: list[float] = []

    def script(name: str) -> Trouble | None:
        if name != "Upsert":
            return None
        began.append(time.monotonic())
        return Trouble(code=RATE_LIMIT) if time.monotonic() < began[0] + over and (len(began) == 1 or trial.rng.random() < 0.5) else None

    return _through_the_proxy(trial, script)


def milvus_quota(trial: Trial) -> bool:
    """The quota is used up (code 9) when some upserts have been done, and comes back."""
    first = trial.rng.randint(0, trial.files - 1)
    refused = range(first, first + trial.rng.randint(1, 3))
    upserts = iter(range(10_000))

    def script(name: str) -> Trouble | None:
        return Trouble(code=QUOTA) if name == "Upsert" and next(upserts) in refused else None

    return _through_the_proxy(trial, script)


def milvus_slow(trial: Trial) -> bool:
    """Every answer takes its time; in half of the trials one upsert is done, and its answer comes when nobody waits any more."""
    late = trial.rng.randint(0, trial.files - 1) if trial.rng.random() < 0.5 else None
    trial.notes.append(f"upsert {late} is answered too late" if late is not None else "")
    upserts = iter(range(10_000))

    def script(name: str) -> Trouble | None:
        after = TOO_LATE if name == "Upsert" and next(upserts) == late else 0.0
        return Trouble(before=trial.rng.uniform(0, 1), after=after)

    return _through_the_proxy(trial, script)


def _through_the_proxy(trial: Trial, script: Script) -> bool:
    """A run ends well all the same, with nothing encoded again."""
    proxy = trial.house.before_milvus
    trial.use_proxy()
    proxy.met, proxy.script = {}, script
    ended = trial.run()
    trial.notes.append(f"met {proxy.met}")
    trial.insist(not ended.code, f"a Milvus that is slow or full for a while failed a run: {ended.err[-800:]}")
    return bool(proxy.met)


def upload_torn(trial: Trial) -> bool:
    """Uploads in pieces break off at any call, or the flow is killed in the middle of one."""
    (trial.folder / "sitecustomize.py").write_text(SMALL_PIECES)
    trial.more_environment |= {"PYTHONPATH": f"{trial.folder}:{ROOT}"}
    trial.extra_allowed += ROWS * trial.files
    struck = (_killed_in_an_upload if trial.rng.random() < 0.4 else _torn_at_random)(trial)
    trial.notes.append(f"{len(_unfinished_uploads(trial))} uploads left open")
    return struck


def _torn_at_random(trial: Trial) -> bool:
    weather = trial.house.weather
    weather.rng, weather.done, weather.where = trial.rng, {}, "uploadId="  # UploadPart, CompleteMultipartUpload, Abort
    weather.odds = {"drop before": 0.05, "drop after": 0.05, "500 after": 0.05, "503": 0.05}
    trial.run()
    trial.notes.append(f"met {weather.done}")
    return bool(weather.done)


def _killed_in_an_upload(trial: Trial) -> bool:
    run = trial.start()
    after = trial.rng.randint(0, 2 * trial.files)
    there = trial.until(lambda: trial.state()["part"] >= after, run)
    trial.house.weather.hold = "uploadId="
    if not (there and trial.until(trial.house.weather.held.is_set, run)):
        trial.house.weather.hold = ""
        trial.end(run)
        return False
    _kill(trial, run)
    return bool(_unfinished_uploads(trial))


def _kill(trial: Trial, run: Launched) -> None:
    everything = trial.processes()
    trial.kill([psutil.Process(run.pid)])
    trial.house.weather.hold = ""  # before the end of the run: there a pair's second fault starts runs of its own
    trial.end(run)
    trial.watch_them_go(everything)


def _unfinished_uploads(trial: Trial) -> list[str]:
    found = trial.house.client.list_multipart_uploads(Bucket=BUCKET, Prefix=trial.prefix)
    return [upload["Key"] for upload in found.get("Uploads", [])]


def source_on_s3(trial: Trial) -> bool:
    """The source is in S3 too, and listing and reading it fails at random."""
    folder = f"rows-{trial.mark}"
    for path in sorted(trial.source.glob("*.parquet")):
        trial.house.put(f"{folder}/{path.name}", path.read_bytes())
    trial.settings |= {"source__uri": f"s3://{BUCKET}/{folder}/*.parquet"}
    weather = trial.house.weather
    weather.rng, weather.done, weather.where = trial.rng, {}, "rows-"
    weather.odds = {"500": 0.05, "503": 0.05, "slow down": 0.05, "drop before": 0.05, "cut": 0.05}
    trial.extra_allowed += ROWS * trial.files
    trial.run()
    trial.notes.append(f"met {weather.done}")
    return bool(weather.done)


def widened(trial: Trial, stage: str) -> None:
    """Make a short stage long enough to be hit: Milvus takes its time over what is asked of it in that stage."""
    slow: dict[str, Callable[[str], bool]] = {"load": lambda name: name == "Upsert", "verify": lambda name: name in ("Query", "Search")}
    if stage in slow:
        proxy = trial.house.before_milvus
        trial.use_proxy()
        proxy.script = lambda name: Trouble(before=0.7) if slow[stage](name) else None

"""Faults that leave rows behind which nobody accounts for: rows that were acknowledged and never noted, and what then happens to the source."""

from __future__ import annotations

import random
import time

from tests.builders.inprocess import flows_in_process
from tests.chaos.changes import fewer_rows, file_leaves
from tests.chaos.corpus import ROWS
from tests.chaos.edited import Corpus, Pictures, Tables
from tests.chaos.edits import play
from tests.chaos.house import BUCKET
from tests.chaos.launched import Stuck
from tests.chaos.raw import client_of
from tests.chaos.trial import Trial

LOADED = r"/loads/[^/]+/[0-9a-f]{32}\.json"  # what is written when all rows of a shard were acknowledged; an intent goes through


def dies_before_the_ledger(trial: Trial) -> bool:
    """The collection has acknowledged a shard, and the flow is killed before it can say so."""
    if trial.rng.random() < 0.5:
        trial.use_server()
    trial.house.weather.hold = LOADED
    run = trial.start()
    if not trial.until(trial.house.weather.held.is_set, run):
        trial.house.weather.hold = ""  # or the runs that follow would wait for their ledger
        trial.end(run)
        return False
    time.sleep(trial.rng.uniform(0, 1.5))  # others are acknowledged meanwhile
    everything = trial.processes_of(run)
    trial.kill([p for p in everything if p.pid == run.pid])
    trial.house.weather.hold = ""  # before the end of the run: there a pair's second fault starts runs of its own
    unsaid = trial.loaded() == 0
    trial.end(run)
    trial.watch_them_go(everything)
    return unsaid


def acknowledged_then_rows_left(trial: Trial) -> bool:
    """The same, and then the files of the rows that were acknowledged lose rows or leave: nothing of them stays that is not accounted for."""
    trial.draw_mode()
    struck = dies_before_the_ledger(trial)
    for path in trial.files_now if trial.rng.random() < 0.5 else trial.rng.sample(trial.files_now, 3):
        if trial.rng.random() < 0.7 or len(trial.files_now) < 3:
            fewer_rows(trial, path)
        else:
            left = file_leaves(trial, path)
            if trial.mode == "append":
                trial.either.append(left)  # never in the source of a run that ended: all of its rows, or none
    trial.again = True
    return struck


def two_imports(trial: Trial) -> bool:
    """Two runs import into one fresh collection at once: nothing half-filled and nothing staged stays."""
    trial.use_server()
    trial.staging = trial.folder / "staging"
    trial.settings |= {"target__load": "import", "target__staging": str(trial.staging)}
    trial.extra_allowed += ROWS * trial.files
    one = trial.start()
    time.sleep(trial.rng.uniform(0, 1.5))
    other = trial.start()
    ended = [trial.end(one), trial.end(other)]
    trial.insist(all(run.code in {0, 1} for run in ended), f"two imports at once: {[(run.code, run.err[-400:]) for run in ended]}")
    trial.notes.append(f"ended {[run.code for run in ended]}")
    trial.again = True
    return True


def overlapping_corpora(trial: Trial) -> bool:
    """Two corpora that share rows go into one collection at the same time; each row is there once, and the last run is proved."""
    trial.use_server()
    trial.settings |= {"target__shared": True}
    shared = trial.folder / "other" / "rows"
    shared.mkdir(parents=True)
    for number, path in enumerate(trial.files_now):
        if number % 2:
            (shared / f"{number}.parquet").write_bytes(path.read_bytes())
    trial.extra_allowed += ROWS * trial.files
    job = trial.job(corpus="other", source__uri=str(shared), checkpoint=f"s3://{BUCKET}/other-{trial.prefix}")
    both = [trial.start(), trial.start(job=job)]
    ended = [trial.end(run) for run in both]
    trial.insist(all(run.code in {0, 1} for run in ended), f"two corpora in one: {[(run.code, run.err[-400:]) for run in ended]}")
    trial.again = True
    trial.notes.append(f"ended {[run.code for run in ended]}")
    return True


# ---- many edits ----


def pictures_come_and_go(trial: Trial) -> bool:
    """Shards that span files: one that comes or goes moves all that follow. Played in this process (see `edits`)."""
    return _edited(trial, Pictures(trial.folder / "edited", random.Random(trial.seed), clip=trial.house.clip))


def files_come_and_go(trial: Trial) -> bool:
    """Rows move between files, files leave and come back."""
    return _edited(trial, Tables(trial.folder / "edited", random.Random(trial.seed), model=trial.house.tiny))


def _edited(trial: Trial, corpus: Corpus) -> bool:
    trial.judged = True  # each round is
    uri = trial.house.milvus.uri if trial.rng.random() < 0.5 else None
    try:
        with flows_in_process(trial.house.prefect) as run_flow:
            said = list(play(run_flow, corpus, rounds=6, seed=trial.seed, uri=uri, collection=trial.collection))
    except Exception as error:
        raise Stuck(f"{type(error).__name__}: {error}") from error
    finally:
        if uri:
            _forget(uri, trial.collection)
    trial.notes.append(f"{len(said)} rounds")
    return True


def _forget(uri: str, name: str) -> None:
    with client_of(uri) as client:
        for real in client.list_collections():
            if real.startswith(name):
                for alias in client.list_aliases(real).get("aliases", []):
                    client.drop_alias(alias)
                client.drop_collection(real)

"""Faults of a cache that several corpora share: entries that are not what they were, and a Redis that dies while it is asked.

Another corpus of the same texts fills the cache before; the trial's own then runs with it, and may take rows from it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from unittest.mock import patch

import psutil
import redis
import yaml

from tests.builders.inprocess import flows_in_process
from tests.chaos.corpus import NO_KEY, NO_TEXT, POISON, ROWS
from tests.chaos.house import BUCKET
from tests.chaos.launched import Skipped
from tests.chaos.trial import Trial
from tests.servers.redis import redis_process

DEADLINE_MS = 10_000  # on a busy machine a cache that is not asked would be no test
BAD = len({NO_TEXT, NO_KEY, POISON})  # of each file, which no seal holds
SPOILED = 0.5  # of the entries


def entries_poisoned(trial: Trial) -> bool:
    """Half of the entries are cut, turned, exchanged or something else: their rows are encoded, the others are not, and each has its own vector."""
    with _filled(trial) as uri:
        spoiled, held = _poison(trial, uri), trial.encoded
        trial.notes.append(f"{spoiled} entries poisoned")
        ended = trial.run()
        trial.insist(ended.code == 0, f"the run ended with {ended.code}: {ended.err[-800:]}")
        tries = 2 * trial.files  # of a row whose vector is NaN: with others and alone
        trial.insist(spoiled <= trial.encoded - held <= spoiled + tries, f"{trial.encoded - held} rows encoded, {spoiled} entries poisoned")
    return True


def cache_dies(trial: Trial) -> bool:
    """kill -9 of Redis at a moment of a run that takes rows from it: the run goes on by itself, and encodes what it is not told."""
    with _filled(trial) as uri:
        with redis.Redis.from_url(uri) as client:  # some is there, so that there is something to encode as well
            for key in trial.rng.sample(sorted(client.keys()), ROWS * trial.files // 2):
                client.delete(key)
            server = psutil.Process(int(client.info("server")["process_id"]))
        run = trial.start()
        struck = trial.reach(run, trial.rng.choice(("start", "encode", "seal")))
        server.kill()
        ended = trial.end(run)
        trial.insist(ended.code == 0, f"the run ended with {ended.code}: {ended.err[-800:]}")
        trial.extra_allowed += ROWS * trial.files  # whatever the cache could not say any more
    return struck


@contextmanager
def _filled(trial: Trial) -> Iterator[str]:
    """A Redis that another corpus of the same texts has filled."""
    with ExitStack() as stack:
        try:
            uri = stack.enter_context(redis_process())
        except BaseException as missing:
            if type(missing).__name__ == "Skipped":  # pytest's own
                raise Skipped(str(missing)) from None
            raise
        trial.settings["cache"] = {"uri": uri, "deadline_ms": DEADLINE_MS}
        other = {"corpus": "other", "checkpoint": f"s3://{BUCKET}/other-{trial.mark}", "target__uri": f"memory://{trial.mark}"}
        before = trial.encoded
        with patch.dict(os.environ, trial.environment), flows_in_process(trial.house.prefect) as run_flow:
            run_flow(yaml.safe_load(trial.job(**other).read_text()))
        trial.extra_allowed += trial.encoded - before
        with redis.Redis.from_url(uri) as client:
            trial.notes.append(f"{client.dbsize()} entries")
        yield uri


def _poison(trial: Trial, uri: str) -> int:
    with redis.Redis.from_url(uri) as client:
        keys = sorted(client.keys())
        chosen = trial.rng.sample(keys, int(len(keys) * SPOILED))
        for key in chosen:
            value: bytes = client.get(key)
            other: bytes = client.get(trial.rng.choice([known for known in keys if known not in chosen]))
            at = trial.rng.randrange(len(value))
            turned = value[:at] + bytes([value[at] ^ (1 << trial.rng.randrange(8))]) + value[at + 1 :]
            spoiled = trial.rng.choice((value[:at], turned, other, b"", value + b"\0", b"not a vector"))
            client.set(key, spoiled, ex=3_600)
        if chosen:  # and one that is no string at all
            client.delete(chosen[0])
            client.rpush(chosen[0], b"a list")
        return len(chosen)

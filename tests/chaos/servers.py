"""Faults of the servers: S3, Milvus, Prefect."""

from __future__ import annotations

import time
from collections.abc import Callable

import psutil
from pymilvus import MilvusClient

from tests.chaos.corpus import ROWS
from tests.chaos.launched import Stuck
from tests.chaos.trial import Trial
from tests.servers.prefect import PrefectServer, start_server, stop_server

Break = Callable[[Trial], bool]
REFUSAL_SECONDS = 20
PREFECT_SECONDS = 480  # Prefect's own client tries for some minutes to reach a server that is gone


def s3(**odds: float) -> Break:
    """S3 fails requests at random, with these shares, for a whole run."""

    def weather(trial: Trial) -> bool:
        trial.house.weather.rng, trial.house.weather.done = trial.rng, {}
        trial.house.weather.odds = {name.replace("_", " "): share for name, share in odds.items()}
        trial.extra_allowed += ROWS * trial.files
        trial.run()
        trial.notes.append(f"met {trial.house.weather.done}")
        return bool(trial.house.weather.done)

    return weather


def s3_refuses(trial: Trial) -> bool:
    """Nothing of S3 answers for 20 s; a run waits that out."""
    run = trial.start()
    if not trial.reach(run):
        trial.end(run)
        return False
    trial.house.weather.refusing.set()
    trial.ends_within(run, REFUSAL_SECONDS)
    trial.house.weather.refusing.clear()
    trial.end(run)
    return True


def s3_without_conditions(trial: Trial) -> bool:
    """A store that does not look at If-None-Match is found at the start, and nothing is written."""
    trial.house.weather.unconditional.set()
    ended = trial.run()
    if ended.code != 2 or "conditional put" not in ended.err:
        raise Stuck(f"a store without conditional writes was not refused: {ended.code} {ended.err[-500:]}")
    if left := trial.house.keys(trial.prefix):
        raise Stuck(f"something was written into a store without conditional writes: {list(left)}")
    return True


def milvus_dies(trial: Trial) -> bool:
    """kill -9 of the Milvus server while rows are loaded; it comes back by itself."""
    trial.use_server()
    run = trial.start()
    if not trial.reach(run, trial.rng.choice(("seal", "load", "verify"))):
        trial.end(run)
        return False
    trial.house.milvus.kill()
    time.sleep(trial.rng.uniform(0, 3))
    trial.house.milvus.start()
    trial.end(run)
    return True


def two_runs(trial: Trial) -> bool:
    """Two runs of one job at the same time; both end well, and one wins each seal."""
    trial.use_server()
    trial.extra_allowed += ROWS * trial.files
    one = trial.start()
    time.sleep(trial.rng.uniform(0, 1.5))
    other = trial.start()
    ended = [trial.end(one), trial.end(other)]
    failed = [(run.code, run.err[-400:]) for run in ended if run.code]
    trial.insist(not failed, f"of two runs at once one failed: {failed}")
    return True


def prefect_server_dies(trial: Trial) -> bool:
    """kill -9 of the Prefect server of a run; it comes back after a while, or not."""
    home = trial.folder / "prefect"
    home.mkdir()
    server = PrefectServer(api=trial.house.prefect.api.replace(_port(trial.house.prefect), str(_free())), home=home)
    guard = start_server(server)
    try:
        trial.more_environment |= {"PREFECT_API_URL": server.api, "PREFECT_HOME": str(home)}
        run = trial.start()
        struck = trial.reach(run)
        if struck:
            for process in psutil.Process(guard.pid).children(recursive=True):
                process.kill()
            guard.wait(10)
            if trial.rng.random() < 0.75:
                time.sleep(trial.rng.uniform(0, 3))
                guard = start_server(server)
        trial.end(run, PREFECT_SECONDS)
    finally:
        stop_server(guard)
    for name in ("PREFECT_API_URL", "PREFECT_HOME"):
        trial.more_environment.pop(name)
    return struck


def _port(server: PrefectServer) -> str:
    return server.api.rsplit(":", 1)[1].partition("/")[0]


def _free() -> int:
    from tests.servers.milvus import free_ports  # noqa: PLC0415

    return free_ports(1)[0]


def drop_collection(uri: str, name: str) -> None:
    """So that shared servers do not fill up."""
    client = MilvusClient(uri)
    try:
        for real in client.list_collections():
            if real.startswith(f"{name}_"):
                for alias in client.list_aliases(real).get("aliases", []):
                    client.drop_alias(alias)
                client.drop_collection(real)
    finally:
        client.close()

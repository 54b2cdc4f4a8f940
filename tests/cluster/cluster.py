"""A cluster on machines of namespaces: S3 (moto) and Milvus 2.3.5 on the hub, heads of Ray or Dask there that have nothing to give, a node
on each host.

Commands run on the hub as a user's would, with the credentials of its environment.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from tests.builders.kitestring import make_job
from tests.cluster.engines import RAY, ROOT, OnMachines
from tests.cluster.machines import HUB, Machines, machines
from tests.servers.milvus import MilvusProcess

S3_PORT, S3_SERVER = 5000, "tests.cluster.refusing_s3"
FAST = {"RAY_health_check_period_ms": "1000", "RAY_health_check_timeout_ms": "2000", "RAY_health_check_failure_threshold": "3"}
RANK = "tasks.worker"  # in the command line of every process of a launch
START_SECONDS = 180.0
JOB_SECONDS = 400.0


class HubMilvus(MilvusProcess):
    """Milvus on the hub, with its folder on the disk that all machines share."""

    def __init__(self, folder: Path, net: Machines) -> None:
        super().__init__(folder)
        self._net = net
        self.uri = f"http://{HUB}:{self.uri.rsplit(':', 1)[1]}"

    def _popen(self, command: Sequence[str], **options: Any) -> subprocess.Popen[bytes]:
        env = options.pop("env")
        return self._net.start(HUB, ["env", "-C", options.pop("cwd"), *command], env, **options)

    def _is_healthy(self) -> bool:
        ask = f"import urllib.request as r; r.urlopen('http://127.0.0.1:{self._health}/healthz', timeout=3)"
        with contextlib.suppress(AssertionError):
            self._net.run(HUB, [sys.executable, "-c", ask])
            return True
        return False


class Cluster:
    """What runs on the machines. `folder`: on the shared disk."""

    def __init__(self, net: Machines, folder: Path, engines: Sequence[OnMachines] = (RAY,)) -> None:
        self.net, self.folder, self.engines = net, folder, tuple(engines)
        self.hosts: tuple[str, ...] = ()  # that have joined at the start
        self._s3: subprocess.Popen[Any] | None = None

    @cached_property
    def milvus(self) -> HubMilvus:
        return HubMilvus(self.folder / "milvus", self.net)

    @property
    def env(self) -> dict[str, str]:
        """Of every process: nothing of a job's credentials is anywhere else."""
        return {
            **FAST,
            "AWS_ENDPOINT_URL": f"http://{HUB}:{S3_PORT}",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "HOME": "/tmp",  # each machine's own
            "OMP_NUM_THREADS": "1",
            "PREFECT_HOME": "/tmp/prefect",
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PYTHONPATH": str(ROOT),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "RAY_AUTH_MODE": "disabled",
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_raylet_start_wait_time_s": "60",
        }

    def start(self, hosts: Sequence[str]) -> None:
        """Servers, the heads, and these hosts; what need not wait for another does not."""
        self.hosts, milvus = (
            tuple(hosts),
            self.milvus,
        )  # its ports are chosen before threads start programs, which inherit sockets for a moment
        with ThreadPoolExecutor(8) as threads:
            heads = [threads.submit(engine.start_head, self) for engine in self.engines]
            s3 = threads.submit(self.start_s3)
            for head in heads:
                head.result()
            joining = [threads.submit(self.join, host) for host in hosts]
            milvus.start()  # by this thread, with which it ends
            for each in (s3, *joining):
                each.result()

    def join(self, host: str) -> None:
        """Have a host join all engines."""
        for engine in self.engines:
            engine.join(self, host)

    def start_s3(self) -> None:
        with self.net.log(HUB, "s3") as log:
            command = [sys.executable, "-m", S3_SERVER, S3_PORT, self._refuses]
            self._s3 = self.net.start(HUB, command, self.env, stdout=log, stderr=log)
        self.wait(lambda: self.s3("list_buckets") is not None, "S3")

    def s3(self, method: str, **arguments: Any) -> Any:
        """A call of boto3's client, made on the hub; None where it fails."""
        code = "import json, sys, boto3; a = json.loads(sys.argv[2]); print(json.dumps(getattr(boto3.client('s3'), sys.argv[1])(**a), default=str))"
        with contextlib.suppress(AssertionError):
            return json.loads(self.net.run(HUB, [sys.executable, "-c", code, method, json.dumps(arguments)], self.env))
        return None

    def pause_s3(self) -> Callable[[], None]:
        """Stop it from answering; what is returned lets it go on."""
        self.kill(HUB, S3_SERVER, by=signal.SIGSTOP)
        return self.resume_s3

    def resume_s3(self) -> None:
        self.kill(HUB, S3_SERVER, by=signal.SIGCONT)
        self._refuses.unlink(missing_ok=True)

    def refuse_s3(self) -> None:
        """Have it answer every call with 503, until it is resumed."""
        self._refuses.touch()

    @property
    def _refuses(self) -> Path:
        return self.folder / "s3-refuses"

    def shell(self, name: str, command: str) -> None:
        """A command as a person types it."""
        self.net.run(name, ["bash", "-c", command], self.env, seconds=START_SECONDS)

    def port_is_open(self, name: str, port: int, address: str = "") -> bool:
        with contextlib.suppress(AssertionError):
            self.net.run(name, ["bash", "-c", f"exec 3<>/dev/tcp/{address or self.net.address(name)}/{port}"])
            return True
        return False

    def python(self, name: str, code: str, *arguments: object) -> str:
        return self.net.run(name, [sys.executable, "-c", code, *arguments], self.env)

    def begin(self, *arguments: object, log: str = "run", env: Mapping[str, str] | None = None) -> subprocess.Popen[Any]:
        """`kitestring ...` under way on the hub; what it says goes into its log."""
        command = [sys.executable, "-m", "flows", *arguments]
        with self.net.log(HUB, log) as file:
            return self.net.start(HUB, command, {**self.env, **(env or {})}, stdout=file, stderr=subprocess.STDOUT)

    def kitestring(self, *arguments: object, seconds: float = JOB_SECONDS) -> str:
        """`kitestring ...` to its end, on the hub. AssertionError with all that it said where it fails."""
        return self.net.run(HUB, [sys.executable, "-m", "flows", *arguments], self.env, seconds=seconds)

    def make_buckets(self) -> None:
        """One for sources and one for vectors."""
        for bucket in ("lake", "vectors"):
            assert self.s3("create_bucket", Bucket=bucket) is not None

    def job_in_s3(self, name: str, model: Path, *, shard_rows: int, **settings: Any) -> Path:
        """The file of a job that embeds the lake's rows on one rank a host into a collection of its name, but for `settings`."""
        usual = {
            "source__uri": "s3://lake/rows/*.parquet",
            "checkpoint": f"s3://vectors/{name}",
            "target__uri": self.milvus.uri,
            "target__collection": name,
            "shards__rows": shard_rows,
            "compute__processes": 1,
        }
        return self.job(make_job(self.folder, model, **{**usual, **settings}), name)

    def job(self, document: dict[str, Any], name: str) -> Path:
        path = self.folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump(document))
        return path

    def rows(self, collection: str) -> list[tuple[str, list[float]]]:
        """Every row that a search could find, in the order of keys, doubled ones twice."""
        return [
            (key, vector)
            for key, vector in json.loads(
                self.net.run(HUB, [sys.executable, "-m", "tests.cluster.look", self.milvus.uri, collection], self.env)
            )
        ]

    def ranks(self, name: str) -> list[int]:
        """The processes of launches on a machine."""
        return self.found(name, (RANK,))

    def found(self, name: str, texts: Sequence[str]) -> list[int]:
        """Processes of a machine with one of these texts in their command line."""
        return [pid for pid, line in self.net.processes(name).items() if any(text in line for text in texts)]

    def kill(self, name: str, *texts: str, by: signal.Signals = signal.SIGKILL) -> int:
        """kill -9, or another signal, to such processes; how many there were."""
        found = self.found(name, texts)
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, by)
        return len(found)

    def wait(self, ready: Callable[[], object], what: str, seconds: float = START_SECONDS) -> float:
        """Until something holds; seconds that it took."""
        began = time.monotonic()
        while not ready():
            assert time.monotonic() < began + seconds, f"{what}: not within {seconds:.0f} s"
            time.sleep(0.2)
        return time.monotonic() - began


@contextlib.contextmanager
def cluster(folder: Path, hosts: Sequence[str], engines: Sequence[OnMachines] = (RAY,)) -> Iterator[Cluster]:
    """A cluster of the hub and these hosts; the other machines are up, but have not joined."""
    with machines(folder, kept=[folder]) as net:
        made = Cluster(net, folder, engines)
        made.start(hosts)
        yield made

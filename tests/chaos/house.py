"""The servers that all trials share: S3, Prefect, Milvus. Each is started when it is first needed."""

from __future__ import annotations

import os
import random
import re
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from tests.builders.models import Clip, make_tiny_clip, make_tiny_model
from tests.chaos.corpus import COMMON_WORD, Reference, make_slow_model
from tests.servers.faulty_s3 import (
    CUT_SHORT,
    DROPPED_AFTER,
    DROPPED_BEFORE,
    FORGETS_CONDITIONS,
    HANGS,
    Fault,
    FaultyS3,
    answers,
    answers_after,
    serving,
)
from tests.servers.milvus import MilvusProcess, milvus_process
from tests.servers.milvus_proxy import MilvusProxy, milvus_proxy
from tests.servers.prefect import PrefectServer, prefect_process
from tests.servers.s3 import S3Bucket, S3Server, s3_process

BUCKET = "chaos"
POOL = "kitestring"
MILVUS_LEASE = 20  # seconds: two series side by side were seen to have a disk stand still for more than five
BROKEN: dict[str, Fault] = {
    "500": answers(500, "InternalError"),
    "503": answers(503, "ServiceUnavailable"),
    "slow down": answers(503, "SlowDown"),
    "500 after": answers_after(500, "InternalError"),
    "drop before": DROPPED_BEFORE,
    "drop after": DROPPED_AFTER,
    "cut": CUT_SHORT,
    "hang": HANGS,
}


@dataclass(slots=True)
class Weather(FaultyS3):
    """The proxy before the bucket; what it does to requests is drawn anew for each, by `odds`.

    `refusing`: nothing is answered at all. `unconditional`: the condition of a conditional put is not told to the server.
    """

    rng: random.Random = field(default_factory=random.Random)
    odds: dict[str, float] = field(default_factory=dict)
    where: str = ""  # the odds are for requests whose path holds this
    hold: str = ""  # a pattern: a put in whose path it is found is dropped, and `held` says so
    held: threading.Event = field(default_factory=threading.Event)
    refusing: threading.Event = field(default_factory=threading.Event)
    unconditional: threading.Event = field(default_factory=threading.Event)
    done: dict[str, int] = field(default_factory=dict)

    def take(self, method: str, path: str) -> Fault | None:
        with self._lock:
            self.seen = self.seen[-100:]
            if self.refusing.is_set():
                return DROPPED_BEFORE
            if self.hold and method == "PUT" and re.search(self.hold, path):
                self.held.set()
                return DROPPED_BEFORE
            if self.unconditional.is_set() and method == "PUT":
                return FORGETS_CONDITIONS
            drawn = self.rng.random()
            for name, share in self.odds.items() if self.where in path else ():
                drawn -= share
                if drawn < 0:
                    self.done[name] = self.done.get(name, 0) + 1
                    if name == "hang":  # once is enough: it takes the client's whole patience
                        self.odds = {other: s for other, s in self.odds.items() if other != "hang"}
                    return BROKEN[name]
        return super(Weather, self).take(method, path)

    def calm(self) -> None:
        """Everything works."""
        self.odds, self.where, self.hold = {}, "", ""
        self.held.clear()
        self.refusing.clear()
        self.unconditional.clear()


class House:
    """What trials have in common. `folder` is the house's own."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder, self._stack = folder, stack
        self.model = make_slow_model(folder / "model")
        self.tiny = make_tiny_model(folder / "reference")
        self.reference = Reference(self.tiny)

    @cached_property
    def poor_model(self) -> Path:
        """Another encoder, which answers nearly every text with NaN."""
        return make_slow_model(self.folder / "poor", seconds=0.01, poison=COMMON_WORD)

    @cached_property
    def clip(self) -> Clip:
        """A small model of pictures."""
        (self.folder / "clip").mkdir()
        return make_tiny_clip(self.folder / "clip")

    @cached_property
    def s3(self) -> S3Server:
        server = self._stack.enter_context(s3_process())
        server.client().create_bucket(Bucket=BUCKET)
        return server

    @cached_property
    def client(self) -> Any:
        """Straight to the bucket, past the weather."""
        return self.s3.client()

    @cached_property
    def weather(self) -> Weather:
        return self._stack.enter_context(serving(Weather(bucket=S3Bucket(server=self.s3, name=BUCKET))))  # type: ignore[return-value]

    @cached_property
    def prefect(self) -> PrefectServer:
        return self._stack.enter_context(prefect_process())

    @cached_property
    def deployed(self) -> PrefectServer:
        """The server with the pool and the deployments, as deployments/README.md makes them."""
        self.prefect.create_process_pool(POOL)
        self.prefect.deploy()
        return self.prefect

    @property
    def milvus(self) -> MilvusProcess:
        self._milvus.ensure()
        return self._milvus

    @cached_property
    def _milvus(self) -> MilvusProcess:
        return self._stack.enter_context(milvus_process(lease=MILVUS_LEASE))

    @property
    def before_milvus(self) -> MilvusProxy:
        """A way to the Milvus server that can refuse and delay."""
        self._milvus.ensure()
        return self._before_milvus

    @cached_property
    def _before_milvus(self) -> MilvusProxy:
        return self._stack.enter_context(milvus_proxy(self.milvus.uri))

    def calm(self) -> None:
        """Every server works as it should."""
        self.weather.calm()
        if "_before_milvus" in self.__dict__:
            self._before_milvus.script = lambda _: None

    @property
    def s3_environment(self) -> dict[str, str]:
        """As a user of MinIO or Ceph sets it."""
        keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}
        return {**keys, "AWS_ENDPOINT_URL": self.weather.url, "AWS_EC2_METADATA_DISABLED": "true"}

    def keys(self, prefix: str) -> dict[str, int]:
        """Every object below a prefix, and its size."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix)
        return {o["Key"]: o["Size"] for page in pages for o in page.get("Contents", [])}

    def get(self, key: str) -> bytes:
        body: bytes = self.client.get_object(Bucket=BUCKET, Key=key)["Body"].read()
        return body

    def put(self, key: str, data: bytes) -> None:
        self.client.put_object(Bucket=BUCKET, Key=key, Body=data)


@contextmanager
def open_house(folder: Path) -> Iterator[House]:
    """The servers, ended on leaving."""
    with ExitStack() as stack:
        yield House(folder, stack)


def environment() -> dict[str, str]:
    """This process' own, less what would lead a run elsewhere."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "PREFECT_", "MILVUS_"))}

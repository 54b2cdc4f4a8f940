"""An engine of two hosts that are threads of this process and are told everything as JSON, as machines would be."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

from tasks.adapters.engines.cluster_hosts.fleet import Fleet
from tasks.adapters.engines.remote_host import RemoteHost
from tasks.adapters.models.model_files import LocatedModel
from tasks.domain.encoding.encoding_events import Tell
from tasks.domain.encoding.encoding_spec import EncodingSpec
from tasks.domain.job.engine import EngineKind, EngineSettings
from tasks.domain.ports import Store

HOSTS = 2


class FakeEngineSettings(EngineSettings):
    """It has none."""

    kind: Literal["fake"] = "fake"


class ThreadHost:
    """A `HostLink` to a `RemoteHost` in threads of this process. `lose` makes its calls fail, until a fleet has ended and called it anew."""

    def __init__(self, **settings: Any) -> None:
        self._settings = settings
        self._threads = ThreadPoolExecutor(16, thread_name_prefix="thread-host")
        self.host: RemoteHost | None = None
        self.lost = self.silent = False
        self.calls: list[str] = []
        self.arguments: list[tuple[object, ...]] = []

    def call(self, method: str, *arguments: object) -> Future[str]:
        self.calls.append(method)
        self.arguments.append(arguments)
        if self.silent:
            return Future()
        self.host = self.host or RemoteHost(alone=False, **self._settings)
        host, answer = self.host, Future[str]()

        def work() -> None:
            found = getattr(host, method)(*arguments)
            assert isinstance(found, str)
            if self.host is not host or self.lost:
                answer.set_exception(ConnectionError("the host is gone\nand so on"))
            else:
                answer.set_result(found)

        self._threads.submit(work)
        return answer

    def lose(self) -> None:
        """As kill -9."""
        self.lost = True

    def end(self) -> None:
        host, self.host, self.lost, self.silent = self.host, None, False, False
        if host is not None:
            host.close()


class ThreadCluster:
    """A `Cluster` of hosts in threads."""

    def __init__(self, *hosts: ThreadHost) -> None:
        self.there = list(hosts) or [ThreadHost() for _ in range(HOSTS)]

    def hosts(self) -> Sequence[ThreadHost]:
        return list(self.there)

    def close(self) -> None:
        for host in self.there:
            host.end()


def open_fake(spec: EncodingSpec, *, scratch: Path, tell: Tell, store: Store | None = None, model: LocatedModel | None = None) -> Fleet:
    return Fleet(ThreadCluster, spec, tell=tell)


FAKE = EngineKind(settings=FakeEngineSettings, opens=f"{__name__}:open_fake")

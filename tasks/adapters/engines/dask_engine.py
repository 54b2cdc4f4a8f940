"""Hosts on the workers of a Dask cluster (`compute.engine.kind: dask`). The only module that knows Dask.

On every machine: the same Python and distributed, the same Kitestring, the AWS variables or an instance role. The flow may run anywhere
that reaches the scheduler.

    dask scheduler                                             # on any machine
    dask worker tcp://IP:8786 --nthreads 1                     # each host

A host is a separate process beside a worker, in the worker's environment: one per machine, with all its GPUs, or one per worker
that offers `compute.engine.worker_resources` (`dask worker --resources host=1`). Its calls are not Dask tasks, because Dask recomputes
tasks of a dead worker, including finished ones. They are messages, each sent once to one worker through the scheduler. Its limit
of 512 concurrent connections bounds a run to some 150 hosts.

No state of a run stays in a worker: each life of a host has a random name. Hosts detect a dead flow only by the absence of calls, since
Dask does not notify workers; see `host_process`. On SIGTERM a nanny gives its worker four seconds to finish the parts in
progress; with `--no-nanny` the worker has as long as the machine allows.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Coroutine, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import Any

from distributed import Client, Worker, WorkerPlugin

from tasks.adapters.engines.cluster_hosts.fleet import Fleet
from tasks.adapters.engines.cluster_hosts.host_answers import in_a_line
from tasks.adapters.engines.cluster_hosts.host_process import REMOTE_HOST, HostProcess
from tasks.adapters.engines.far_spec import spec_for_afar
from tasks.adapters.models.model_files import LocatedModel
from tasks.domain.encoding.encoding_events import Tell
from tasks.domain.encoding.encoding_spec import EncodingSpec
from tasks.domain.errors import BadInput, Permanent, Transient
from tasks.domain.job.engine import DaskEngineSettings
from tasks.domain.ports import Store

CALL, END = "kitestring-call", "kitestring-end"  # messages to a worker
PLUGIN = "kitestring-hosts"
FIRST = "identify"  # the first call to a host; starts its process
ANSWER_SECONDS = 10.0  # for the scheduler to list its workers
SCHEDULER_SECONDS = 30.0
GIVEN_UP_SECONDS = 120.0  # without a scheduler, after which the run fails


class WorkerHosts(WorkerPlugin):  # type: ignore[misc]
    """Runs in a worker: holds the host processes by the name of their life."""

    def __init__(self) -> None:
        self._hosts: dict[str, HostProcess] = {}

    def setup(self, worker: Worker) -> None:
        worker.handlers.update({CALL: self.call, END: self.end})

    async def teardown(self, worker: Worker) -> None:  # noqa: ARG002 - as Dask calls it
        hosts = [*self._hosts.values()]
        await asyncio.gather(*(asyncio.to_thread(host.leave) for host in hosts))

    async def call(self, *, life: str, host: str, method: str, arguments: Sequence[object]) -> dict[str, str]:
        """Returns the host's answer, or the reason why there is none."""
        if method == FIRST and life not in self._hosts:
            self._hosts[life] = HostProcess(host)
        if life not in self._hosts:
            return {"gone": "the host has been ended"}
        try:
            return {"answer": await asyncio.wrap_future(self._hosts[life].call(method, *arguments))}
        except ConnectionError as error:
            self._hosts.pop(life, None)
            return {"gone": str(error)}

    async def end(self, *, life: str) -> None:
        """Kill the process of a life."""
        if (host := self._hosts.pop(life, None)) is not None:
            host.end()


async def install(dask_worker: Worker) -> None:
    """Install the message handlers in a worker."""
    if PLUGIN not in dask_worker.plugins:
        await dask_worker.plugin_add(WorkerHosts(), name=PLUGIN, catch_errors=False)


class DaskHost:
    """A `HostLink` to a process beside a worker; the next call starts one if there is none."""

    def __init__(self, cluster: DaskCluster, address: str, host: str) -> None:
        self._cluster, self._address, self._host = cluster, address, host
        self._life = ""

    def call(self, method: str, *arguments: object) -> Future[str]:
        if method == FIRST or not self._life:
            self._life = secrets.token_hex(8)
        return self._cluster.do(self._call(self._life, method, arguments))

    def end(self) -> None:
        life, self._life = self._life, ""
        if life:
            with suppress(ConnectionError):
                self._cluster.ends.append(self._cluster.do(self._cluster.send(self._address, {"op": END, "life": life})))

    async def _call(self, life: str, method: str, arguments: Sequence[object]) -> str:
        if method == FIRST:
            await self._cluster.client.run(install, workers=[self._address])
        message = {"op": CALL, "life": life, "host": self._host, "method": method, "arguments": list(arguments)}
        answer = await self._cluster.send(self._address, message)
        if "answer" not in answer:
            raise ConnectionError(answer["gone"])
        return str(answer["answer"])


class DaskCluster:
    """The `Cluster` of a job's settings; connects on construction, disconnects on `close`.

    Args:
        host: "module:name" of the `RemoteHost` class, as workers import it.

    Raises:
        BadInput: there is no scheduler at the address.
    """

    def __init__(self, settings: DaskEngineSettings, *, run: str, host: str = REMOTE_HOST) -> None:
        self._settings, self._run, self._host = settings, run, host
        self._hosts: dict[str, DaskHost] = {}
        self._missed = 0.0  # since when the scheduler does not answer; 0: it answers
        self.ends: list[Future[Any]] = []  # END messages in flight
        try:
            self.client = self._connect()
        except (OSError, ValueError) as error:
            raise BadInput(
                f"compute.engine.scheduler '{settings.scheduler}': no Dask scheduler can be reached from this machine ({in_a_line(error)}):"
                " set its address, such as tcp://host:8786"
            ) from error

    def hosts(self) -> Sequence[DaskHost]:
        addresses = self._addresses(self._workers())
        for address in [address for address in self._hosts if address not in addresses]:
            self._hosts.pop(address).end()
        for address in addresses:
            if address not in self._hosts:
                self._hosts[address] = DaskHost(self, address, self._host)
        self.ends = [end for end in self.ends if not end.done()]
        return list(self._hosts.values())

    def close(self) -> None:
        for host in self._hosts.values():
            host.end()
        until = time.monotonic() + 5
        for end in self.ends:
            with suppress(Exception):  # a host that the message does not reach closes itself
                end.result(max(0.0, until - time.monotonic()))
        self._leave()

    def do(self, work: Coroutine[Any, Any, Any]) -> Future[Any]:
        """Run a coroutine in the client's event loop.

        Raises:
            ConnectionError: the client has left the cluster.
        """
        if self.client.status != "running":
            work.close()
            raise ConnectionError("the Dask scheduler is gone")
        loop: Any = self.client.loop
        return asyncio.run_coroutine_threadsafe(work, loop.asyncio_loop)

    async def send(self, address: str, message: Mapping[str, Any]) -> Mapping[str, Any]:
        """Send a message to a worker and return its answer.

        Raises:
            ConnectionError: the worker is gone; it may have received the message.
        """
        answers = await self._scheduler.broadcast(msg=dict(message), workers=[address], on_error="ignore")
        if address not in answers:
            raise ConnectionError(f"the Dask worker {address} is gone")
        return answers[address] or {}

    @property
    def _scheduler(self) -> Any:
        """The scheduler's RPC methods, as coroutines."""
        return self.client.scheduler

    def _connect(self) -> Client:
        address = None if self._settings.scheduler == "auto" else self._settings.scheduler
        if address is None and not (address := _configured()):
            raise ValueError("DASK_SCHEDULER_ADDRESS is not set")
        name = f"kitestring-{self._run}"
        return Client(address, timeout=SCHEDULER_SECONDS, set_as_default=False, direct_to_workers=False, name=name)

    def _leave(self) -> None:
        with suppress(Exception):  # its event loop may have ended with the scheduler
            self.client.close(timeout=5)

    def _workers(self) -> dict[str, dict[str, Any]]:
        """The scheduler's information about each worker, by address.

        Raises:
            Transient: the scheduler does not answer.
            Permanent: it has not answered for `GIVEN_UP_SECONDS`.
        """
        try:
            if self.client.status in {"closed", "closing"}:  # it has tried to reconnect itself, for `SCHEDULER_SECONDS`
                self._leave()
                self.client = self._connect()
            identity = self.do(self._scheduler.identity(n_workers=-1)).result(ANSWER_SECONDS)
        except (OSError, ValueError) as error:
            now = time.monotonic()
            self._missed = self._missed or now
            if now - self._missed > GIVEN_UP_SECONDS:
                raise Permanent(
                    f"compute.engine.scheduler: the Dask scheduler has not answered for {GIVEN_UP_SECONDS:.0f} s ({in_a_line(error)}); run"
                    " the job again when it does: sealed shards are kept"
                ) from error
            raise Transient(f"the Dask scheduler does not answer: {in_a_line(error)}") from error
        self._missed = 0.0
        return dict(identity["workers"])

    def _addresses(self, workers: Mapping[str, Mapping[str, Any]]) -> list[str]:
        """Addresses of the workers that should have a host; those that have one keep it."""
        needs = self._settings.worker_resources
        able = [a for a, worker in workers.items() if all(worker["resources"].get(name, 0) >= amount for name, amount in needs.items())]
        able.sort(key=lambda address: address not in self._hosts)
        if not needs:
            able = list({workers[address]["host"]: address for address in reversed(able)}.values())[::-1]
        return able if self._settings.hosts == "auto" else able[: self._settings.hosts]


def open_dask(
    spec: EncodingSpec,
    *,
    scratch: Path,  # noqa: ARG001 - each host has its own
    tell: Tell,
    store: Store | None = None,  # noqa: ARG001
    model: LocatedModel | None = None,
) -> Fleet:
    """The engine of `compute.engine.kind: dask`.

    Raises:
        BadInput: hosts cannot reach the checkpoint or the source.
    """
    settings = spec.job.compute.engine
    assert isinstance(settings, DaskEngineSettings)
    return Fleet(lambda: DaskCluster(settings, run=spec.run), spec_for_afar(spec, shared=settings.shared, model=model), tell=tell)


def _configured() -> str:
    """The scheduler's address in Dask's own configuration: files, or DASK_SCHEDULER_ADDRESS."""
    import dask.config  # noqa: PLC0415 - a part of distributed

    return str(dask.config.get("scheduler-address", "") or "")

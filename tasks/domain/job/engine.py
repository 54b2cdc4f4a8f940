"""`compute.engine` of a job: the machines that encode, and the registry of its kinds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import ConfigDict, Field

from tasks.domain.job.kinds import Kind, Kinds
from tasks.domain.job.ui_schema import Auto, Count
from tasks.domain.strict import Strict


class EngineSettings(Strict):
    """Common settings of all kinds of engines."""

    kind: str

    has_hosts: ClassVar[bool] = True  # whether other machines than the flow's encode

    @property
    def slots(self) -> int:
        """Slots of `compute.limit` that a run occupies: one for each host if the job states their number, else one."""
        hosts = getattr(self, "hosts", 1)
        return hosts if isinstance(hosts, int) else 1


class LocalEngineSettings(EngineSettings):
    """Encodes on the machine that the flow runs on."""

    model_config = ConfigDict(title="local")

    kind: Literal["local"] = Field("local", description="On the machine that the flow runs on.")

    has_hosts: ClassVar[bool] = False


class ClusterSettings(EngineSettings):
    """Common settings of engines with several machines."""

    hosts: Auto | Count = Field(
        "auto", description="Maximum number of hosts of the cluster that encode. auto: all, including those that join later."
    )
    shared: bool = Field(
        False,
        description="Every host has the flow's folders mounted at the same paths. false: a folder as checkpoint or source is refused.",
    )


class RayEngineSettings(ClusterSettings):
    """Encodes on the nodes of a Ray cluster; the flow runs on one of them."""

    model_config = ConfigDict(title="ray")

    kind: Literal["ray"] = Field("ray", description="On the nodes of a Ray cluster; needs the extra `ray`.")
    address: str = Field("auto", description="The cluster, as host:port of its head. auto: the cluster of which this machine is a node.")
    resources: dict[str, Annotated[float, Field(gt=0)]] = Field(
        default_factory=dict,
        description="Ray resources of one host, such as {GPU: 4}: a node has as many hosts as fit. Left out: one host on each"
        " node, with all its GPUs.",
    )


class DaskEngineSettings(ClusterSettings):
    """Encodes beside the workers of a Dask cluster; the flow runs anywhere that reaches its scheduler."""

    model_config = ConfigDict(title="dask")

    kind: Literal["dask"] = Field("dask", description="Beside the workers of a Dask cluster; needs the extra `dask`.")
    scheduler: str = Field("auto", description="The scheduler, as tcp://host:8786. auto: the value of DASK_SCHEDULER_ADDRESS.")
    worker_resources: dict[str, Annotated[float, Field(gt=0)]] = Field(
        default_factory=dict,
        description="Resources of the workers to use, such as {host: 1} (`dask worker --resources host=1`): each is one host."
        " Left out: one host on each machine, with all its GPUs.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineKind(Kind[EngineSettings]):
    """A kind of engine.

    opens: "module:name" of its `tasks.adapters.engines.registry.OpenEngine`.
    extra: the extra that installs its required package.
    module: the required module, if its name is not the extra's.
    """

    opens: str
    extra: str | None = None
    module: str | None = None


ENGINES = Kinds(
    "compute.engine",
    default="local",
    known={
        "local": EngineKind(settings=LocalEngineSettings, opens="tasks.adapters.engines.local_engine:LocalEngine"),
        "ray": EngineKind(settings=RayEngineSettings, opens="tasks.adapters.engines.ray_engine:open_ray", extra="ray"),
        "dask": EngineKind(
            settings=DaskEngineSettings, opens="tasks.adapters.engines.dask_engine:open_dask", extra="dask", module="distributed"
        ),
    },
)

EngineChoice = Annotated[EngineSettings, ENGINES]

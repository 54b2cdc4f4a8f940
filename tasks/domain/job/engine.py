"""`compute.engine` of a job: which machines encode, and the registry of its kinds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from tasks.domain.job.kinds import Kind, Kinds
from tasks.domain.strict import Strict


class EngineSettings(Strict):
    """What every kind of engine has."""

    kind: str


class LocalEngineSettings(EngineSettings):
    """Encodes on the machine that the flow runs on."""

    model_config = ConfigDict(title="local")

    kind: Literal["local"] = Field("local", description="On the machine that the flow runs on.")


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineKind(Kind[EngineSettings]):
    """A kind of engine. `opens`: "module:name" of what makes one, as `tasks.adapters.engines.registry.OpenEngine`."""

    opens: str


ENGINES = Kinds(
    "compute.engine",
    default="local",
    known={"local": EngineKind(settings=LocalEngineSettings, opens="tasks.adapters.engines.local_engine:LocalEngine")},
)

EngineChoice = Annotated[EngineSettings, ENGINES]

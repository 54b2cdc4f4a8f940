"""`compute.engine` of a job: which machines encode. A new kind: its settings and a line here, and a line in tasks.adapters.engines.registry."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, Field

from tasks.domain.strict import Strict


class EngineSettings(Strict):
    """What every kind of engine has."""

    kind: str


class LocalEngineSettings(EngineSettings):
    """Encodes on the machine that the flow runs on."""

    model_config = ConfigDict(title="local")

    kind: Literal["local"] = Field("local", description="On the machine that the flow runs on.")


ENGINE_SETTINGS: dict[str, type[EngineSettings]] = {"local": LocalEngineSettings}

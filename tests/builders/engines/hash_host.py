"""Hosts of a cluster with encoders that are threads: no model, no torchrun."""

from __future__ import annotations

from tasks.adapters.engines.ray_engine import HostActor
from tasks.adapters.engines.remote_host import RemoteHost
from tasks.domain.encoding.encoding_spec import EncodingSpec
from tasks.domain.job.encoder import ENCODERS
from tasks.domain.job.target import TARGETS
from tests.builders.engines import faults
from tests.builders.engines.file_target import KIND as FILE_TARGET
from tests.builders.engines.hash_encoders import by_hash

KIND = "sentence-transformers"


class HashHost(RemoteHost):
    """One of them."""

    def load(self, spec: str, seen: int = 0) -> str:
        ENCODERS.known[KIND] = by_hash(KIND)
        TARGETS.known["file"] = FILE_TARGET
        faults.install(faults.folder_of(EncodingSpec.model_validate_json(spec).job))
        return super().load(spec, seen)


class HashActor(HashHost, HostActor):
    """An actor of Ray."""

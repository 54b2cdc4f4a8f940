"""What the first host settles for all, and which hosts may load before it has."""

from __future__ import annotations

from collections.abc import Sequence

from tasks.adapters.engines.cluster_hosts.host_seat import HostSeat
from tasks.domain.encoder_identity import EncoderFacts
from tasks.domain.encoding.encoding_spec import EncodingSpec

PATIENCE_SECONDS = 30.0  # with one that loads and settles, until another one tries; whose facts come first are those of the corpus


def may_settle(spec: EncodingSpec, seats: Sequence[HostSeat], now: float) -> bool:
    """Whether one more host may load while nothing is settled.

    All may where the job says the precision: what they find is the same. Otherwise one does, and another one beside it where that takes long,
    since a machine that is slow or stuck must not keep all others from working. int8 is quantised once, by one.
    """
    precision = getattr(spec.job.encoder, "precision", "float32")
    if precision not in ("auto", "int8"):
        return True
    since = [seat.loading_since for seat in seats if seat.state in {"loading", "ready"}]
    return not since or (precision == "auto" and now - max(since) > PATIENCE_SECONDS)


def spec_with(spec: EncodingSpec, settled: EncoderFacts | None) -> str:
    """A run's settings for a host, with what is settled by now, so that no other settles it otherwise."""
    if spec.pinned is None and settled is not None:
        encoder = spec.job.encoder.model_copy(update={"precision": settled.precision})
        spec = spec.model_copy(update={"job": spec.job.model_copy(update={"encoder": encoder})})
    return spec.model_dump_json()

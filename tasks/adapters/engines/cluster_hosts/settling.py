"""The first host to load the encoder settles its facts for all; decides which hosts may load before that."""

from __future__ import annotations

from collections.abc import Sequence

from tasks.adapters.engines.cluster_hosts.host_seat import HostSeat
from tasks.domain.encoder_identity import EncoderFacts
from tasks.domain.encoding.encoding_spec import EncodingSpec

PATIENCE_SECONDS = 30.0  # until another host loads in parallel to a slow one; the first to finish settles the facts of the corpus


def may_settle(spec: EncodingSpec, seats: Sequence[HostSeat], now: float) -> bool:
    """Whether one more host may load the encoder while the facts are not settled.

    If the job sets the precision, all may: their facts will agree. Otherwise one loads, and after `PATIENCE_SECONDS` another one in parallel,
    so that a slow or stuck machine does not block the others. int8 is quantised once, by one host.
    """
    precision = getattr(spec.job.encoder, "precision", "float32")
    if precision not in ("auto", "int8"):
        return True
    since = [seat.loading_since for seat in seats if seat.state in {"loading", "ready"}]
    return not since or (precision == "auto" and now - max(since) > PATIENCE_SECONDS)


def spec_with(spec: EncodingSpec, settled: EncoderFacts | None) -> str:
    """The run's settings for a host as JSON, with the settled precision, so that the host does not choose another."""
    if spec.pinned is None and settled is not None:
        encoder = spec.job.encoder.model_copy(update={"precision": settled.precision})
        spec = spec.model_copy(update={"job": spec.job.model_copy(update={"encoder": encoder})})
    return spec.model_dump_json()

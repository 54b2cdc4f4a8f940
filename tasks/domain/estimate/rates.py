"""Encoding rates of a kind of machine, observed by runs and dry runs and stored in the checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from tasks.domain.estimate.intervals import Range, exactly, spread_of
from tasks.domain.shards.layout import encoder_pins
from tasks.domain.strict import Strict

Unit = Literal["tokens", "rows"]
OBSERVATIONS_KEPT = 10  # the newest; machines and libraries change, so old ones say little
LEAST_SPREAD = 0.10  # relative, of a rate: about the difference of two runs of one job on one machine
SINGLE_SPREAD = 0.25  # for a single observation
SHORT_SPREAD = 0.50  # for observations shorter than BRIEF_SECONDS
BRIEF_SECONDS = 2.0  # of encoding: below this the first and last batches dominate
LOADED_ROWS = 500  # with fewer rows, creating the collection takes longer than filling it
STARTUP = Range(low=5, expected=15, high=60)  # seconds to load an encoder, before the first observation
REST = Range(low=1, expected=5, high=20)  # seconds of a small run beyond start-up and encoding, before the first observation


class Observation(Strict):
    """One run, or one dry run. Seconds are wall-clock seconds of all processes together."""

    kind: Literal["run", "dry run"]
    at: str = Field(description="UTC, ISO 8601.")
    rows: int = Field(ge=0, description="Encoded rows.")
    tokens: int = Field(0, ge=0, description="Encoded tokens; 0: pictures.")
    encode_seconds: float = Field(ge=0, description="From the first batch to the last part.")
    startup_seconds: float = Field(0, ge=0, description="Until the encoder was loaded.")
    loaded: int = Field(0, ge=0, description="Loaded rows.")
    load_seconds: float = Field(0, ge=0, description="Time with at least one load in progress.")
    seconds: float = Field(0, ge=0, description="From the start to the proof; 0: unknown.")

    @property
    def rest_seconds(self) -> float:
        """Seconds that are neither start-up nor encoding nor loading: listings, waits, verification, report."""
        return max(0.0, self.seconds - self.startup_seconds - max(self.encode_seconds, self.load_seconds))


class Rates(Strict):
    """The last observations of one encoder on one kind of machine, the newest last."""

    format_version: Literal[1] = 1
    observations: tuple[Observation, ...] = ()

    def noting(self, observation: Observation) -> Rates:
        """Return the rates with one more observation."""
        return Rates(observations=(*self.observations, observation)[-OBSERVATIONS_KEPT:])


class Rate(Strict):
    """The expected rate of a run, and its origin."""

    unit: Unit
    per_second: Range = Field(description="All processes together, while encoding.")
    startup_seconds: Range
    rest_seconds: Range = Field(description="Beyond start-up, encoding and loading.")
    loaded_per_second: Range | None = Field(None, description="Rows; None: no loading was observed yet.")
    origin: str = Field(description="The origin of the rate, for people.")


def rates_key(corpus: str, declared: str, machine: str) -> str:
    """Return the key of the rates in the checkpoint store; arguments as for `tasks.domain.encoding.tuning.tuning_key`."""
    return f"{encoder_pins(corpus)}{declared}-{machine}-rates.json"


def rate_of(rates: Rates, unit: Unit) -> Rate | None:
    """Return the expected rate by these observations; None if none of them encoded anything.

    The expected value is the total amount over the total time. The range goes from the slowest to the fastest
    observation, and at least 10% to either side: 25% for a single one, 50% if none lasted two seconds. Runs take
    precedence over dry runs, which do not load while they encode.
    """
    seen = [o for o in rates.observations if o.encode_seconds > 0 and _amount(o, unit)]
    usable = (
        [o for o in seen if o.kind == "run" and o.encode_seconds >= BRIEF_SECONDS]
        or [o for o in seen if o.encode_seconds >= BRIEF_SECONDS]
        or seen
    )
    if not usable:
        return None
    least = SHORT_SPREAD if usable[0].encode_seconds < BRIEF_SECONDS else LEAST_SPREAD if len(usable) > 1 else SINGLE_SPREAD
    expected = sum(_amount(o, unit) for o in usable) / sum(o.encode_seconds for o in usable)
    whole = [o for o in seen if o.kind == "run" and o.seconds]
    loads = [o.loaded / o.load_seconds for o in whole if o.load_seconds and o.loaded >= LOADED_ROWS]
    return Rate(
        unit=unit,
        per_second=spread_of((_amount(o, unit) / o.encode_seconds for o in usable), expected=expected, least=least),
        startup_seconds=spread_of((o.startup_seconds for o in seen), least=SINGLE_SPREAD),
        rest_seconds=spread_of((o.rest_seconds for o in whole), least=SHORT_SPREAD) if whole else REST,
        loaded_per_second=spread_of(loads, least=SINGLE_SPREAD) if loads else None,
        origin=_origin(usable),
    )


def _amount(observation: Observation, unit: Unit) -> int:
    return observation.tokens if unit == "tokens" else observation.rows


def _origin(usable: Sequence[Observation]) -> str:
    kind, newest = usable[-1].kind, usable[-1].at[:10]
    runs = f"{len(usable)} {kind}s" if len(usable) > 1 else f"one {kind}"
    short = "" if usable[0].encode_seconds >= BRIEF_SECONDS else f", of less than {BRIEF_SECONDS:.0f} s"
    return f"{runs} of this corpus on such a machine, the last on {newest}{short}"


def rate_of_parts(parts: Sequence[tuple[int, float]], *, ranks: int, unit: Unit) -> Rate | None:
    """Return the rate by the timings of sealed parts, each as (amount, seconds of its rank); None if no part took time.

    Ranks work in parallel, so the rate of one is multiplied by the present number of ranks. The machine is unknown, so
    the range is 50% to either side.
    """
    timed = [(amount, seconds) for amount, seconds in parts if amount and seconds > 0]
    if not timed:
        return None
    expected = ranks * sum(amount for amount, _ in timed) / sum(seconds for _, seconds in timed)
    return Rate(
        unit=unit,
        per_second=exactly(expected) * Range(low=1 - SHORT_SPREAD, expected=1, high=1 + SHORT_SPREAD),
        startup_seconds=STARTUP,
        rest_seconds=REST,
        origin=f"{len(timed)} parts that earlier runs sealed, on any machine",
    )

"""How fast such a machine encodes: what runs and dry runs have seen of it, kept with the checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from tasks.domain.estimate.intervals import Range, exactly, spread_of
from tasks.domain.shards.layout import encoder_pins
from tasks.domain.strict import Strict

Unit = Literal["tokens", "rows"]
OBSERVATIONS_KEPT = 10  # observations; machines and libraries change, and old ones say little
LEAST_SPREAD = 0.10  # of a rate: two runs of one job on one machine differ by about as much
SINGLE_SPREAD = 0.25  # where a rate was seen once
SHORT_SPREAD = 0.50  # where it was seen for a moment only
BRIEF_SECONDS = 2.0  # seconds of encoding: with less, what comes first and last counts more than what is between
LOADED_ROWS = 500  # with fewer, making the collection counts more than filling it
STARTUP = Range(low=5, expected=15, high=60)  # seconds until an encoder is loaded, where none was seen yet
REST = Range(low=1, expected=5, high=20)  # seconds of a small run beyond start-up and encoding, where none was seen yet


class Observation(Strict):
    """One run, or one dry run. Seconds are wall-clock seconds of all processes together."""

    kind: Literal["run", "dry run"]
    at: str = Field(description="UTC, ISO 8601.")
    rows: int = Field(ge=0, description="Encoded.")
    tokens: int = Field(0, ge=0, description="Encoded; 0: pictures.")
    encode_seconds: float = Field(ge=0, description="From the first batch to the last part.")
    startup_seconds: float = Field(0, ge=0, description="Until the encoder was loaded.")
    loaded: int = Field(0, ge=0, description="Rows.")
    load_seconds: float = Field(0, ge=0, description="With at least one load under way.")
    seconds: float = Field(0, ge=0, description="From the start to the proof; 0: not seen.")

    @property
    def rest_seconds(self) -> float:
        """Seconds that are neither start-up nor encoding nor loading: listings, waits, verification, report."""
        return max(0.0, self.seconds - self.startup_seconds - max(self.encode_seconds, self.load_seconds))


class Rates(Strict):
    """The last observations of one encoder on one kind of machine, the newest last."""

    format_version: Literal[1] = 1
    observations: tuple[Observation, ...] = ()

    def noting(self, observation: Observation) -> Rates:
        """The same and one more."""
        return Rates(observations=(*self.observations, observation)[-OBSERVATIONS_KEPT:])


class Rate(Strict):
    """How fast a run is expected to be, and why."""

    unit: Unit
    per_second: Range = Field(description="Of all processes together, while encoding.")
    startup_seconds: Range
    rest_seconds: Range = Field(description="Beyond start-up, encoding and loading.")
    loaded_per_second: Range | None = Field(None, description="Rows; None: no loading was seen yet.")
    origin: str = Field(description="Where the rate is from, in words.")


def rates_key(corpus: str, declared: str, machine: str) -> str:
    """Key of the rates in the checkpoint store; the arguments are those of `tasks.domain.encoding.tuning.tuning_key`."""
    return f"{encoder_pins(corpus)}{declared}-{machine}-rates.json"


def rate_of(rates: Rates, unit: Unit) -> Rate | None:
    """What to expect after these observations; None where none of them encoded anything.

    Expected is all that was encoded over all the time that it took. The range goes from the slowest to the fastest
    observation, and at least 10% to either side; 25% where there was one alone, 50% where none lasted two seconds. Runs
    count before dry runs: those load nothing beside encoding.
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
    """What the timings of sealed parts say: (amount, seconds of the rank that encoded it) of each; None where none took time.

    Ranks were side by side, so they count as many times as there are now. Which machine it was is not known, so half
    as much to either side is thought possible, or as much as parts differ from one another.
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

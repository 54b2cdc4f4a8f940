"""How a served model is known again: what its server says of it, and how it embeds some fixed texts.

Bytes of vectors are no identity: the same model rounds otherwise in another batch, on another card, after an upgrade. So the beginnings of
the vectors are kept, and compared with a tolerance.
"""

from __future__ import annotations

import math
from array import array
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence

from pydantic import Field, JsonValue

from tasks.domain.digest import digest
from tasks.domain.strict import Strict

PROBES = (
    "Kitestring asks how this is embedded.",  # the canary: it goes with every batch
    "kite",
    "A kite is tethered to the ground by a line, and the wind that passes over its sail lifts it until line and wind balance.",
    "Der Drachen steigt, weil der Wind ihn trägt: 12,5 m/s genügen.",
    "def lift(area, speed): return 0.5 * 1.225 * speed ** 2 * area",
    "风筝在天空中飞翔。 Воздушный змей летит. طائرة ورقية",
)
NUMBERS = 32  # of each vector
# Distance as a share of the length. Two roundings to bfloat16 differ by 0.01 to 0.03 (cosine 0.9999 to 0.9995), another model by more than 1.
MOST_APART, CANARY_APART = 0.05, 0.1  # all probes together; one alone, beside rows that it is padded with


class ServedIdentity(Strict):
    """What a model's server answers of it."""

    told: dict[str, JsonValue] = Field(description="By the server: what of its description bears on a vector.")
    probes: str = Field(description="The first numbers of the vectors of PROBES, in order: float32, little-endian, in base64.")

    @property
    def digest(self) -> str:
        """For people; identities are compared with `other_server`."""
        return digest({"told": self.told, "probes": self.probes})

    @property
    def heads(self) -> array[float]:
        """Of all probes, one after another."""
        return array("f", b64decode(self.probes))

    @property
    def canary(self) -> array[float]:
        """Of the first probe."""
        return self.heads[: len(self.heads) // len(PROBES)]


def served_identity(told: Mapping[str, JsonValue], vectors: Sequence[Sequence[float]]) -> ServedIdentity:
    """An identity. `vectors`: of PROBES, in order."""
    numbers = array("f", (number for vector in vectors for number in vector[:NUMBERS]))
    return ServedIdentity(told=dict(told), probes=b64encode(numbers.tobytes()).decode())


def other_server(ours: ServedIdentity | None, pinned: ServedIdentity | None) -> str:
    """In what a server's model is not the one that a corpus was embedded with, in words; empty: it is, or nothing is known."""
    if ours is None or pinned is None:
        return ""
    names = [name for name in {**pinned.told, **ours.told} if ours.told.get(name) != pinned.told.get(name)]
    said = [f"{name} is {ours.told.get(name)!r}, and was {pinned.told.get(name)!r}" for name in names]
    apart = distance(ours.heads, pinned.heads)
    if apart > MOST_APART:
        said.append(f"its vectors of fixed texts are not those that were pinned (they differ by {min(apart, 9.99):.0%} of their length)")
    return "; ".join(said)


def distance(ours: Sequence[float], pinned: Sequence[float]) -> float:
    """How far apart two vectors are, as a share of the length of the second."""
    if len(ours) != len(pinned) or not all(map(math.isfinite, ours)):
        return math.inf
    return math.dist(ours, pinned) / max(math.hypot(*pinned), 1e-12)

"""The identity of a served model: its server's description of it, and its vectors of some fixed texts.

The exact bytes of vectors do not identify a model: it rounds differently in another batch, on another card, after an upgrade. So the
first components of the vectors are stored, and compared with a tolerance.
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
    "Kitestring asks how this is embedded.",  # the canary: sent with every batch
    "kite",
    "A kite is tethered to the ground by a line, and the wind that passes over its sail lifts it until line and wind balance.",
    "Der Drachen steigt, weil der Wind ihn trägt: 12,5 m/s genügen.",
    "def lift(area, speed): return 0.5 * 1.225 * speed ** 2 * area",
    "风筝在天空中飞翔。 Воздушный змей летит. طائرة ورقية",
)
NUMBERS = 32  # components kept of each vector
# Distance as a share of the length. Two roundings to bfloat16 differ by 0.01 to 0.03 (cosine 0.9999 to 0.9995), two models by more than 1.
MOST_APART, CANARY_APART = 0.05, 0.1  # all probes together; the canary alone, in a batch with other rows


class ServedIdentity(Strict):
    """The identity of a model, as its server reports it."""

    told: dict[str, JsonValue] = Field(description="The properties in the server's description that affect vectors.")
    probes: str = Field(description="The first components of the vectors of PROBES, in order: float32, little-endian, in base64.")

    @property
    def digest(self) -> str:
        """A digest for people and for cache keys; compare identities with `other_server`."""
        return digest({"told": self.told, "probes": self.probes})

    @property
    def heads(self) -> array[float]:
        """The stored components of all probes, one after another."""
        return array("f", b64decode(self.probes))

    @property
    def canary(self) -> array[float]:
        """The stored components of the first probe."""
        return self.heads[: len(self.heads) // len(PROBES)]


def served_identity(properties: Mapping[str, JsonValue], vectors: Sequence[Sequence[float]]) -> ServedIdentity:
    """Build an identity. `properties`: the server's that affect vectors; `vectors`: of PROBES, in order."""
    numbers = array("f", (number for vector in vectors for number in vector[:NUMBERS]))
    return ServedIdentity(told=dict(properties), probes=b64encode(numbers.tobytes()).decode())


def other_server(ours: ServedIdentity | None, pinned: ServedIdentity | None) -> str:
    """Describe how a server's model differs from the one that embedded a corpus; empty: not at all, or one of them is unknown."""
    if ours is None or pinned is None:
        return ""
    names = [name for name in {**pinned.told, **ours.told} if ours.told.get(name) != pinned.told.get(name)]
    changes = [f"{name} is {ours.told.get(name)!r}, and was {pinned.told.get(name)!r}" for name in names]
    apart = distance(ours.heads, pinned.heads)
    if apart > MOST_APART:
        changes.append(f"its vectors of fixed texts are not the pinned ones (they differ by {min(apart, 9.99):.0%} of their length)")
    return "; ".join(changes)


def distance(ours: Sequence[float], pinned: Sequence[float]) -> float:
    """Return the distance of two vectors as a share of the length of the second."""
    if len(ours) != len(pinned) or not all(map(math.isfinite, ours)):
        return math.inf
    return math.dist(ours, pinned) / max(math.hypot(*pinned), 1e-12)

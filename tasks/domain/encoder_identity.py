"""What an encoder is known by: the identity under which its vectors are kept, and what it said of itself when it was loaded."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, JsonValue, computed_field, model_validator

from tasks.domain.digest import digest
from tasks.domain.served_identity import ServedIdentity
from tasks.domain.strict import ADDED_LATER, Growing, Strict

Precision = Literal["float32", "bfloat16", "float16", "int8", "float8"]


class EncoderIdentity(Strict):
    """What the fingerprint is computed from, stored as `encoder.json`: encoders of equal identity give equal vectors.

    The model's name is recorded but not part of the fingerprint: the same weights in another folder are the same encoder.
    """

    format_version: Literal[1] = 1
    kind: str
    model: str = Field(description="As the job names it.")
    revision: str | None = Field(description="The hub commit that was used, if it came from a hub.")
    weights: str = Field(description="Digest of every file of the model that can change a vector.")
    preprocessing: dict[str, JsonValue] = Field(description="Settings that change a vector: prompt, lengths, normalising.")
    precision: Precision

    @model_validator(mode="before")
    @classmethod
    def _own_fingerprint(cls, stored: object) -> object:
        """Drop a stored fingerprint: it is always computed."""
        return {key: value for key, value in stored.items() if key != "fingerprint"} if isinstance(stored, dict) else stored

    @computed_field  # type: ignore[prop-decorator]
    @property
    def fingerprint(self) -> str:
        """32 hexadecimal digits."""
        return digest(
            {
                "format": self.format_version,
                "kind": self.kind,
                "weights": self.weights,
                "preprocessing": self.preprocessing,
                "precision": self.precision,
            }
        )


class EncoderFacts(Growing):
    """Properties of a loaded encoder; only the worker knows them, because only the worker loads it."""

    dim: int = Field(ge=1)
    max_seq_length: int | None
    precision: Precision
    device: str
    lowest_cosine: float | None = Field(None, description="To float32, over the sample, where precision was auto, int8 or float8.")
    mean_cosine: float | None = None
    note: str = Field("", description="Why this precision, in words.")
    quantized: Annotated[str, ADDED_LATER] = Field(
        "", description="Of int8: digest of the quantised model, which the checkpoint keeps; by torch: LLM.int8, which keeps none."
    )
    server: ServedIdentity | None = Field(None, description="Of a served encoder: how its model is known again.")


class EncoderRecord(Strict):
    """`encoder.json`: an identity and what its encoder said of itself when it was first loaded."""

    identity: EncoderIdentity
    facts: EncoderFacts

    @property
    def shared_as(self) -> str:
        """What its vectors are known by beyond a corpus: of a served model the fingerprint has the name alone, which another server may have given to
        another model, so that what its server answered belongs to it.
        """
        server, fingerprint = self.facts.server, self.identity.fingerprint
        return fingerprint if server is None else digest({"fingerprint": fingerprint, "server": server.digest})


def differences(told: EncoderIdentity | EncoderFacts, known: EncoderIdentity | EncoderFacts) -> str:
    """What of one record that a vector depends on is not as in another, in words; "": all is."""
    free = {"model", "revision", "fingerprint", "device", "lowest_cosine", "mean_cosine", "note", "server"}
    left, right = told.model_dump(mode="json", exclude=free), known.model_dump(mode="json", exclude=free)
    return ", ".join(f"{name} is {left[name]!r} there and {right[name]!r} here" for name in left if left[name] != right.get(name))

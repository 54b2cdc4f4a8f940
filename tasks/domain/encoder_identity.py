"""The identity of an encoder, which names its vectors, and the facts that it reported when it was loaded."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, JsonValue, computed_field, model_validator

from tasks.domain.digest import digest
from tasks.domain.served_identity import ServedIdentity
from tasks.domain.strict import ADDED_LATER, Growing, Strict

Precision = Literal["float32", "bfloat16", "float16", "int8", "float8"]
EIGHT_BITS: tuple[Precision, ...] = ("int8", "float8")  # never chosen by `auto`: vectors differ by more than rounding


class EncoderIdentity(Strict):
    """The inputs of the fingerprint, stored as `encoder.json`: encoders of equal identity give equal vectors.

    The model's name is recorded but not part of the fingerprint: the same weights in another folder are the same encoder.
    """

    format_version: Literal[1] = 1
    kind: str
    model: str = Field(description="The name in the job.")
    revision: str | None = Field(description="The hub commit, if the model came from a hub.")
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
    lowest_cosine: float | None = Field(
        None, description="Compared with float32 over the sample; set if precision was auto, int8 or float8."
    )
    mean_cosine: float | None = None
    note: str = Field("", description="The reason for this precision, for people.")
    quantized: Annotated[str, ADDED_LATER] = Field(
        "", description="For int8: digest of the stored quantised model; by torch: LLM.int8, which stores none."
    )
    server: ServedIdentity | None = Field(None, description="For a served encoder: how later runs recognise its model.")


class EncoderRecord(Strict):
    """`encoder.json`: an identity and the facts of its encoder at the first load."""

    identity: EncoderIdentity
    facts: EncoderFacts

    @property
    def shared_as(self) -> str:
        """The key under which corpora share its vectors. The fingerprint of a served model covers only the model's name, which another
        server may give to another model, so its key includes the server's identity.
        """
        server, fingerprint = self.facts.server, self.identity.fingerprint
        return fingerprint if server is None else digest({"fingerprint": fingerprint, "server": server.digest})


def differences(reported: EncoderIdentity | EncoderFacts, known: EncoderIdentity | EncoderFacts) -> str:
    """Describe how two records differ in fields that a vector depends on; "" if they do not."""
    ignored = {"model", "revision", "fingerprint", "device", "lowest_cosine", "mean_cosine", "note", "server"}
    left, right = reported.model_dump(mode="json", exclude=ignored), known.model_dump(mode="json", exclude=ignored)
    return ", ".join(f"{name} is {left[name]!r} there and {right[name]!r} here" for name in left if left[name] != right.get(name))

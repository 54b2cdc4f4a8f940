"""The `encoder` of a job, the registry of its kinds, and the identity under which its vectors are kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, JsonValue, computed_field, model_validator

from tasks.domain.digest import digest
from tasks.domain.job.kinds import Kind, Kinds
from tasks.domain.job.source import Modality
from tasks.domain.job.ui_schema import Count, Nothing
from tasks.domain.strict import Strict

Precision = Literal["float32", "bfloat16", "float16"]
Text = Annotated[str, Field(title="text")]


MOST_PIXELS = 178_956_970
TORCHRUN = "tasks.adapters.engines.torchrun_encoders:open_ranks"  # ranks that load the kind's worker


class EncoderSettings(Strict):
    """What every kind of encoder has, and what it answers of itself."""

    kind: str
    if TYPE_CHECKING:  # each kind has it at its own place in the form
        precision: Literal["auto"] | Precision

    @property
    def model_name(self) -> str:
        """The model for people."""
        raise NotImplementedError

    @property
    def largest_picture(self) -> int:
        """Pixels of the largest picture that is decoded, where it embeds any."""
        return MOST_PIXELS

    @property
    def declared(self) -> dict[str, Any]:
        """The settings that say which encoder this is, beside the digest of its weights."""
        return self.model_dump(mode="json")

    @property
    def preprocessing(self) -> dict[str, JsonValue]:
        """The settings of an identity: what changes a vector, and is neither in the weights nor the precision."""
        return self.model_dump(mode="json", exclude={"kind", "precision"})

    @classmethod
    def restored(cls, identity: EncoderIdentity, *, like: EncoderSettings) -> Self:  # noqa: ARG003 - other kinds ask it
        """The settings that gave an identity. `like`: of the job that asks, for what an identity does not say."""
        return cls.model_validate({**identity.preprocessing, "precision": identity.precision})


class SentenceTransformersEncoder(EncoderSettings):
    """Text to vectors with a sentence-transformers model."""

    model_config = ConfigDict(title="sentence-transformers")

    kind: Literal["sentence-transformers"] = Field("sentence-transformers", description="Text to vectors.")
    model: str = Field(
        "sentence-transformers/all-MiniLM-L6-v2",
        description="Hub name or local folder.",
    )
    revision: Text | Nothing = Field(None, description="Commit, branch or tag of the hub model. Left out: its main branch.")
    prompt: Text | Nothing = Field(None, description="Text put before each row, as the model's card asks.")
    prompt_name: Text | Nothing = Field(None, description="Name of a prompt that the model brings along.")
    max_seq_length: Count | Nothing = Field(None, description="Tokens after which a text is cut. Left out: the model's own.")
    truncate_dim: Count | Nothing = Field(None, description="Keep the first N dimensions (Matryoshka models).")
    normalize: bool = Field(True, description="Scale each vector to length 1, after any truncation of its dimensions.")
    precision: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto",
        description="auto: bfloat16 where the hardware multiplies it natively and a sample's vectors stay within cosine 0.9995; else float32.",
    )
    trust_remote_code: bool = Field(False, description="Run Python code that comes with the model. Off unless you trust it.")

    @property
    def model_name(self) -> str:
        return self.model

    @property
    def declared(self) -> dict[str, Any]:
        return self.model_dump(mode="json", exclude={"model", "revision"})

    @property
    def preprocessing(self) -> dict[str, JsonValue]:
        return self.model_dump(mode="json", exclude={"kind", "model", "revision", "precision", "trust_remote_code"})

    @classmethod
    def restored(cls, identity: EncoderIdentity, *, like: EncoderSettings) -> Self:
        """Code is trusted where the job that asks trusts it."""
        trusted = getattr(like, "trust_remote_code", False)
        told = {"model": identity.model, "revision": identity.revision, "precision": identity.precision, "trust_remote_code": trusted}
        return cls.model_validate({**identity.preprocessing, **told})


class OpenClipEncoder(EncoderSettings):
    """Images, or texts, to vectors of one space with an open_clip model: each is searched with words and with images."""

    model_config = ConfigDict(title="open_clip")

    kind: Literal["open-clip"] = Field("open-clip", description="Images to vectors, or texts to the same space.")
    architecture: str = Field("ViT-B-32", description="A name that open_clip knows, such as ViT-B-32 or ViT-L-14.")
    pretrained: str = Field("laion2b_s34b_b79k", description="A tag of that architecture, or the path of a checkpoint.")
    max_pixels: int = Field(MOST_PIXELS, ge=1, description="A picture with more pixels than this is set aside undecoded.")
    exact: bool = Field(
        False,
        description="Unpack every picture at its full size. Left off, a JPEG of at least twice the model's size is unpacked at a half, a"
        " quarter or an eighth, which is faster and moves vectors a little (cosine 0.999 and better).",
    )
    normalize: bool = Field(True, description="Scale each vector to length 1.")
    precision: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto",
        description="auto: bfloat16 where the hardware multiplies it natively and a sample's vectors stay within cosine 0.9995; else float32.",
    )

    @property
    def model_name(self) -> str:
        return f"{self.architecture} {self.pretrained}"

    @property
    def largest_picture(self) -> int:
        return self.max_pixels

    @property
    def preprocessing(self) -> dict[str, JsonValue]:
        return self.model_dump(mode="json", exclude={"kind", "pretrained", "precision"})

    @classmethod
    def restored(cls, identity: EncoderIdentity, *, like: EncoderSettings) -> Self:  # noqa: ARG003 - it has all that it needs
        pretrained = identity.model.removeprefix(str(identity.preprocessing.get("architecture", ""))).strip()
        return cls.model_validate({**identity.preprocessing, "pretrained": pretrained, "precision": identity.precision})


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderKind(Kind[EncoderSettings]):
    """A kind of encoder: where what it is made of is declared, each as "module:name", and what it can do.

    worker      a `tasks.worker.base.LoadedEncoder`, made as `tasks.worker.encoders.registry.open_encoder` does
    files       a function of its settings that gives a `tasks.adapters.models.model_files.LocatedModel`
    shape       a function of settings and LocatedModel that gives a `tasks.adapters.models.model_metadata.ModelShape`
    modalities  what it embeds
    encoders    a function of a `tasks.adapters.engines.workplace.Workplace` that gives `tasks.domain.ports.Encoders`
    """

    worker: str
    files: str
    shape: str
    modalities: tuple[Modality, ...]
    backends: tuple[Literal["torch", "openvino"], ...] = ("torch",)
    counts_tokens: bool = False  # how many tokens a text has, so that they measure its work
    needs_torch: bool = True
    encoders: str = TORCHRUN


ENCODERS = Kinds(
    "encoder",
    default="sentence-transformers",
    known={
        "sentence-transformers": EncoderKind(
            settings=SentenceTransformersEncoder,
            worker="tasks.worker.encoders.sentence_transformers:TextEncoder",
            files="tasks.adapters.models.model_files:locate_text",
            shape="tasks.adapters.models.model_metadata:shape_of_text",
            modalities=("text",),
            backends=("torch", "openvino"),
            counts_tokens=True,
        ),
        "open-clip": EncoderKind(
            settings=OpenClipEncoder,
            worker="tasks.worker.encoders.open_clip:ImageEncoder",
            files="tasks.adapters.models.model_files:locate_clip",
            shape="tasks.adapters.models.model_metadata:shape_of_clip",
            modalities=("image", "text"),
        ),
    },
)

Encoder = Annotated[EncoderSettings, ENCODERS]


class EncoderIdentity(Strict):
    """What a fingerprint stands for, kept as `encoder.json`: two encoders with one identity give one vector.

    The model's name is told but not counted: the same weights in another folder are the same encoder.
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
        """What was written with its fingerprint is read back without: it is always computed."""
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


class EncoderFacts(Strict):
    """What a loaded encoder says of itself: only the worker knows, since only the worker loads it."""

    dim: int = Field(ge=1)
    max_seq_length: int | None
    precision: Precision
    device: str
    lowest_cosine: float | None = Field(None, description="To float32, over the sample, where precision was auto.")
    mean_cosine: float | None = None
    note: str = Field("", description="Why this precision, in words.")


class EncoderRecord(Strict):
    """`encoder.json`: an identity and what its encoder said of itself when it was first loaded."""

    identity: EncoderIdentity
    facts: EncoderFacts


def differences(told: EncoderIdentity | EncoderFacts, known: EncoderIdentity | EncoderFacts) -> str:
    """What of one record that a vector depends on is not as in another, in words; "": all is."""
    free = {"model", "revision", "fingerprint", "device", "lowest_cosine", "mean_cosine", "note"}
    left, right = told.model_dump(mode="json", exclude=free), known.model_dump(mode="json", exclude=free)
    return ", ".join(f"{name} is {left[name]!r} there and {right[name]!r} here" for name in left if left[name] != right.get(name))

"""The `encoder` of a job, and the registry of its kinds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, JsonValue

from tasks.domain.encoder_identity import EncoderIdentity, Precision
from tasks.domain.job.kinds import Kind, Kinds
from tasks.domain.job.source import Modality
from tasks.domain.job.ui_schema import Count, Nothing
from tasks.domain.strict import ADDED_LATER, Strict, identifying

TextSetting = Annotated[str, Field(title="text")]
Channels = Annotated[tuple[float, ...], Field(title="red, green, blue", min_length=3, max_length=3)]
ResizeMode = Annotated[Literal["shortest", "longest", "squash"], Field(title="mode")]
Interpolation = Annotated[Literal["bicubic", "bilinear"], Field(title="method")]


MOST_PIXELS = 178_956_970
QUERY_SETTINGS = ("query_prompt", "query_prompt_name")  # settings that do not change rows
FOLDER = "local-dir:"  # prefix of the path of an open_clip model's folder
TORCHRUN = "tasks.adapters.engines.torchrun_encoders:open_ranks"  # ranks that load the kind's worker


class EncoderSettings(Strict):
    """Common settings and properties of all kinds of encoders."""

    kind: str
    if TYPE_CHECKING:  # each kind declares it at its own position in the form
        precision: Literal["auto"] | Precision

    @property
    def model_name(self) -> str:
        """The model's name for people."""
        raise NotImplementedError

    @property
    def largest_picture(self) -> int:
        """Pixels of the largest picture that is decoded, for kinds that embed pictures."""
        return MOST_PIXELS

    @property
    def declared(self) -> dict[str, Any]:
        """The settings that identify this encoder, beside the digest of its weights."""
        return identifying(self, exclude=set())

    @property
    def preprocessing(self) -> dict[str, JsonValue]:
        """The settings of an identity that change a vector, apart from weights and precision."""
        return identifying(self, exclude={"kind", "precision"})

    @property
    def most_requests(self) -> int | None:
        """Most requests in flight to a server, over all hosts; None: it uses no server."""
        return None

    @property
    def from_hub(self) -> bool:
        """Whether `revision` names a commit of its model on the hub."""
        return False

    @property
    def in_folder(self) -> bool:
        """Whether an older version's identity contained the path of its folder."""
        return False

    @property
    def why_no_chunks(self) -> str:
        """Why texts cannot be split into chunks for it, and what to do; empty: they can."""
        if ENCODERS[self.kind].counts_tokens:
            return ""
        counting = " or ".join(f"'{other}'" for other in ENCODERS if ENCODERS[other].counts_tokens)
        return f"an encoder of kind '{self.kind}' does not count tokens: use encoder kind {counting}, or leave chunks out"

    def as_earlier(self, identity: EncoderIdentity) -> dict[str, JsonValue]:  # noqa: ARG002 - other kinds use it
        """Return the settings that differ in an older version's identity of this same encoder; empty if it is another encoder."""
        return {}

    @classmethod
    def restored(cls, identity: EncoderIdentity, *, like: EncoderSettings) -> Self:  # noqa: ARG003 - other kinds use it
        """Rebuild the settings of an identity. `like`: the job's settings, for those that an identity does not contain."""
        return cls.model_validate({**_settings(cls, identity), "precision": identity.precision})


def _settings(kind: type[EncoderSettings], identity: EncoderIdentity) -> dict[str, JsonValue]:
    """Return the job's settings in an identity, without those that come from the model's files."""
    return {name: value for name, value in identity.preprocessing.items() if name in kind.model_fields}


class TextModelEncoder(EncoderSettings):
    """Common settings of the kinds that load a model of the sentence-transformers library."""

    model: str = Field(
        "sentence-transformers/all-MiniLM-L6-v2",
        description="Hugging Face Hub name or local folder.",
    )
    revision: TextSetting | Nothing = Field(None, description="Commit, branch or tag of the Hub model. Left out: its main branch.")
    prompt: TextSetting | Nothing = Field(
        None,
        description="Prefix for each row, as the model card requires. Left out: the model's own prompt for documents, if it has one.",
    )
    prompt_name: TextSetting | Nothing = Field(None, description="Name of the rows' prompt in the model's own configuration.")
    query_prompt: Annotated[TextSetting | Nothing, ADDED_LATER] = Field(
        None,
        title="Query prompt",
        description="Prefix for each question (search, gate, report). Left out: the model's own prompt for queries, if it has one."
        " Changing it does not change rows: none is embedded again.",
    )
    query_prompt_name: Annotated[TextSetting | Nothing, ADDED_LATER] = Field(
        None, title="Query prompt name", description="Name of the questions' prompt in the model's own configuration."
    )
    max_seq_length: Count | Nothing = Field(None, description="Tokens after which a text is truncated. Left out: the model's own limit.")
    trust_remote_code: bool = Field(False, description="Allow Python code that comes with the model to run.")

    @property
    def from_hub(self) -> bool:
        return True

    @property
    def cut_to(self) -> int | None:
        """Number of leading dimensions to keep; None: all."""
        return None

    @property
    def scaled(self) -> bool:
        """Whether each vector is scaled to length 1."""
        return False

    @property
    def model_name(self) -> str:
        return self.model

    @property
    def declared(self) -> dict[str, Any]:
        return identifying(self, exclude={"model", "revision", *QUERY_SETTINGS})

    @property
    def preprocessing(self) -> dict[str, JsonValue]:
        return identifying(self, exclude={"kind", "model", "revision", "precision", "trust_remote_code", *QUERY_SETTINGS})

    @classmethod
    def restored(cls, identity: EncoderIdentity, *, like: EncoderSettings) -> Self:
        """Rebuild the settings; whether to trust code comes from the job `like`, and so do query prompts if it has the same model."""
        model = {"model": identity.model, "revision": identity.revision, "precision": identity.precision}
        prompts = {name: getattr(like, name, None) for name in QUERY_SETTINGS} if like.model_name == identity.model else {}
        trusted = getattr(like, "trust_remote_code", False)
        return cls.model_validate({**_settings(cls, identity), **model, **prompts, "trust_remote_code": trusted})


class SentenceTransformersEncoder(TextModelEncoder):
    """Text to vectors with a sentence-transformers model."""

    model_config = ConfigDict(title="sentence-transformers")

    kind: Literal["sentence-transformers"] = Field("sentence-transformers", description="Text to vectors, with sentence-transformers.")
    truncate_dim: Count | Nothing = Field(None, description="Keep only the first N dimensions (Matryoshka models).")
    normalize: bool = Field(True, description="Scale each vector to length 1, after truncate_dim.")
    precision: Literal["auto", "float32", "bfloat16", "float16", "int8", "float8"] = Field(
        "auto",
        description="auto: bfloat16 if the hardware supports it natively and the vectors of a sample stay within cosine 0.9995; else float32."
        " int8, float8: vectors that differ more; the report says by how much. int8: on CPUs with the extra `int8`, faster where they have VNNI;"
        " on GPUs with the extra `lowbits`, for models of billions of weights. float8: on GPUs of compute capability 8.9 or later.",
    )

    @property
    def cut_to(self) -> int | None:
        return self.truncate_dim

    @property
    def scaled(self) -> bool:
        return self.normalize


class OpenClipEncoder(EncoderSettings):
    """Images or texts to vectors of one space with an open_clip model; both are searchable with text and with images."""

    model_config = ConfigDict(title="open_clip")

    kind: Literal["open-clip"] = Field("open-clip", description="Images to vectors, or texts to the same space.")
    architecture: str = Field("ViT-B-32", description="An open_clip architecture, such as ViT-B-32 or ViT-L-14.")
    pretrained: str = Field("laion2b_s34b_b79k", description="A pretrained tag of that architecture, or the path of a checkpoint.")
    max_pixels: int = Field(MOST_PIXELS, ge=1, description="Images with more pixels are quarantined without decoding.")
    exact: bool = Field(
        False,
        description="Decode every image at full size. false: a JPEG of at least twice the model's size is decoded at 1/2, 1/4 or 1/8 scale,"
        " which is faster and changes vectors slightly (cosine 0.999 or better).",
    )
    mean: Annotated[Channels | Nothing, ADDED_LATER] = Field(
        None,
        title="Mean",
        description="Mean of the red, green and blue values of pictures, from 0 to 1. Left out: what the model was trained with.",
    )
    std: Annotated[Channels | Nothing, ADDED_LATER] = Field(
        None,
        title="Deviation",
        description="Standard deviation of the red, green and blue values. Left out: what the model was trained with.",
    )
    resize_mode: Annotated[ResizeMode | Nothing, ADDED_LATER] = Field(
        None,
        title="Resize mode",
        description="shortest: crop the middle; longest: the whole picture, with borders; squash: the whole picture, distorted. Left out: the model's own.",
    )
    interpolation: Annotated[Interpolation | Nothing, ADDED_LATER] = Field(
        None, title="Interpolation", description="Interpolation for resizing pictures. Left out: the model's own."
    )
    image_size: Annotated[Count | Nothing, ADDED_LATER] = Field(
        None, title="Image size", description="Side of the model's input image in pixels. Left out: the model's own."
    )
    quick_gelu: Annotated[bool, ADDED_LATER] = Field(
        False,
        title="QuickGELU",
        description="The model was trained with QuickGELU, as OpenAI's were, and the name of its architecture does not indicate it.",
    )
    normalize: bool = Field(True, description="Scale each vector to length 1.")
    precision: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto",
        description="auto: bfloat16 if the hardware supports it natively and the vectors of a sample stay within cosine 0.9995; else float32.",
    )

    @property
    def model_name(self) -> str:
        return self.architecture if self.in_folder else f"{self.architecture} {self.pretrained}"

    @property
    def in_folder(self) -> bool:
        """Whether the architecture is a folder that contains the weights as well."""
        return self.architecture.startswith(FOLDER)

    def as_earlier(self, identity: EncoderIdentity) -> dict[str, JsonValue]:
        place = str(identity.preprocessing.get("architecture", ""))
        same = {**identity.preprocessing, "architecture": FOLDER} == self.preprocessing
        return {"architecture": place, "pretrained": identity.model.removeprefix(place).strip()} if same and place != FOLDER else {}

    @property
    def largest_picture(self) -> int:
        return self.max_pixels

    @property
    def preprocessing(self) -> dict[str, JsonValue]:
        """The identifying settings. A folder is identified by the digest of its files, so its path is left out."""
        settings = identifying(self, exclude={"kind", "pretrained", "precision"})
        return {**settings, "architecture": FOLDER} if self.in_folder else settings

    @property
    def declared(self) -> dict[str, Any]:
        settings = identifying(self, exclude=set())
        return {**settings, "architecture": FOLDER, "pretrained": ""} if self.in_folder else settings

    @classmethod
    def restored(cls, identity: EncoderIdentity, *, like: EncoderSettings) -> Self:  # noqa: ARG003 - an identity has all that it needs
        if identity.preprocessing.get("architecture") == FOLDER:
            model = {"architecture": identity.model, "pretrained": "", "precision": identity.precision}
            return cls.model_validate({**_settings(cls, identity), **model})
        pretrained = identity.model.removeprefix(str(identity.preprocessing.get("architecture", ""))).strip()
        return cls.model_validate({**_settings(cls, identity), "pretrained": pretrained, "precision": identity.precision})


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderKind(Kind[EncoderSettings]):
    """A kind of encoder: its implementations, each as "module:name", and its capabilities.

    worker      a `tasks.worker.base.LoadedEncoder` class, opened by `tasks.worker.encoders.registry.open_encoder`
    files       a function of its settings that returns a `tasks.adapters.models.model_files.LocatedModel`
    shape       a function of settings and LocatedModel that returns a `tasks.adapters.models.model_metadata.ModelShape`
    modalities  the modalities that it embeds
    encoders    a function of a `tasks.adapters.engines.workplace.Workplace` that returns `tasks.domain.ports.Encoders`
    question    a function of settings and LocatedModel that returns an application's code for `embed(words)`; "": none
    sparse      whether its vectors are weights of terms of a vocabulary (`tasks.adapters.rows.vectors.sparse_vectors`)
    shares_weights  whether ranks can hold one model together (`compute.model_parallel`)
    """

    worker: str
    files: str
    shape: str
    modalities: tuple[Modality, ...]
    backends: tuple[Literal["torch", "openvino"], ...] = ("torch",)
    counts_tokens: bool = False  # whether it counts the tokens of a text, so that they measure the work
    needs_torch: bool = True
    encoders: str = TORCHRUN
    question: str = ""
    sparse: bool = False
    shares_weights: bool = False


ENCODERS: Kinds[EncoderKind] = Kinds(
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
            question="tasks.adapters.models.question_code:text_question",
            shares_weights=True,
        ),
        "open-clip": EncoderKind(
            settings=OpenClipEncoder,
            worker="tasks.worker.encoders.open_clip:ImageEncoder",
            files="tasks.adapters.models.model_files:locate_clip",
            shape="tasks.adapters.models.model_metadata:shape_of_clip",
            modalities=("image", "text"),
            question="tasks.adapters.models.question_code:clip_question",
        ),
        "served": "tasks.adapters.served.served_encoder:SERVED_KIND",
        "sparse": "tasks.adapters.models.sparse_encoder:SPARSE_KIND",
    },
)

Encoder = Annotated[EncoderSettings, ENCODERS]

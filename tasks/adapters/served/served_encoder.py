"""The settings of an encoder that runs on a server already: Kitestring sends texts and takes vectors."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, JsonValue

from tasks.adapters.served.in_flight import MOST_REQUESTS
from tasks.domain.encoder_identity import EncoderIdentity
from tasks.domain.errors import BadInput
from tasks.domain.job.credentials import PLACE
from tasks.domain.job.encoder import EncoderKind, EncoderSettings, TextSetting
from tasks.domain.job.index import Parameters
from tasks.domain.job.ui_schema import Auto, Count, Nothing
from tasks.domain.strict import identifying

Body = Annotated[Parameters, Field(title="fields")]
QUESTION_SETTINGS = {"query_prompt", "query_parameters"}  # settings of questions
NO_VECTOR = {"url", "requests", "token_block", "tokenizer", *QUESTION_SETTINGS}  # settings that change no row by themselves
TOKEN_VARIABLE = "ENCODER_TOKEN"  # noqa: S105 - its name


class ServedEncoder(EncoderSettings):
    """Text to vectors, by a server that runs already."""

    model_config = ConfigDict(title="Served")

    kind: Literal["served"] = Field("served", description="Text to vectors, by a server that runs already; needs no torch here.")
    api: Literal["openai", "tei", "triton"] = Field(
        "openai",
        title="API",
        description="openai: /embeddings (vLLM, infinity, Ollama, NVIDIA NIM, OpenAI). tei: text-embeddings-inference."
        " triton: the KServe v2 protocol over HTTP, with one input of texts (BYTES).",
    )
    url: str = Field(
        "http://localhost:8080",
        title="URL",
        description="The server, as its other clients name it; for openai with the prefix, as http://host:8000/v1. A token comes from"
        f" {TOKEN_VARIABLE}. It is no part of the fingerprint.",
        json_schema_extra=PLACE,
    )
    model: str = Field(
        "",
        description="The model as the server names it. tei: may be left out, its server has one. triton: name/versions/2 for one version.",
    )
    revision: TextSetting | Nothing = Field(
        None,
        description="A name of yours for what is served. Another name is another encoder: change it when the server gets another model.",
    )
    prompt: TextSetting | Nothing = Field(None, description="Prefix for each row, as the model card requires.")
    query_prompt: TextSetting | Nothing = Field(
        None, title="Query prompt", description="Prefix for each question (search, gate, report). It changes no row."
    )
    parameters: Body = Field(
        default_factory=dict,
        description="Fields that are added to each request for rows, such as {input_type: passage} (NVIDIA NIM), {prompt_name: document}"
        " (tei) or {truncate_prompt_tokens: -1} (vLLM).",
    )
    query_parameters: Body | Nothing = Field(
        None, title="Query parameters", description="The same for questions, such as {input_type: query}. Left out: as for rows."
    )
    output: TextSetting | Nothing = Field(None, description="triton: the output that is the vector. Left out: the only one of floats.")
    tokenizer: TextSetting | Nothing = Field(
        None,
        title="Tokenizer",
        description="Of the served model: a folder with its tokenizer.json, or a Hub name. source.chunks are measured with it, and its content is then"
        " part of the fingerprint.",
    )
    truncate_dim: Count | Nothing = Field(None, description="Keep only the first N dimensions (Matryoshka models).")
    normalize: bool = Field(True, description="Scale each vector to length 1, after truncate_dim.")
    requests: Auto | Count = Field(
        "auto",
        description="Most requests in flight, of all hosts together. auto: raised to 64 while more come back, lowered where the server is too busy."
        " compute.batch_rows is the most texts in a request.",
    )
    token_block: TextSetting | Nothing = Field(
        None, description=f"Name of a Prefect Secret block that holds the server's token. Replaces {TOKEN_VARIABLE} where the flow runs."
    )
    precision: Literal["float32"] = Field("float32", description="Of what is kept; the server computes as it was started to.")

    @property
    def model_name(self) -> str:
        return self.model or f"the model of a {self.api} server"

    @property
    def most_requests(self) -> int:
        return MOST_REQUESTS if self.requests == "auto" else self.requests

    @property
    def declared(self) -> dict[str, Any]:
        return identifying(self, exclude=NO_VECTOR)

    @property
    def preprocessing(self) -> dict[str, JsonValue]:
        return identifying(self, exclude=NO_VECTOR | {"kind", "model", "revision", "precision"})

    @property
    def why_no_chunks(self) -> str:
        if self.tokenizer is None:
            return (
                "a server does not say how its model counts tokens: set encoder.tokenizer to that model's tokenizer (a folder with tokenizer.json, or"
                " a Hub name), or leave chunks out"
            )
        if "prompt_name" in self.parameters:
            return "the server adds the prompt that encoder.parameters.prompt_name names, which nobody counts: set encoder.prompt to its words instead"
        if cutting := [name for name in self.parameters if name.startswith("truncat")]:
            return f"with encoder.parameters.{cutting[0]} the server may cut chunks: leave it out"
        return ""

    @classmethod
    def restored(cls, identity: EncoderIdentity, *, like: EncoderSettings) -> ServedEncoder:
        """Asked where and how the job that asks does: an identity does not hold the server's address.

        Raises:
            BadInput: that job's encoder is not served.
        """
        if not isinstance(like, cls):
            raise BadInput(f"its model '{identity.model}' is served, and this job does not say where")
        named = {"url", "requests", "token_block", "tokenizer", *(QUESTION_SETTINGS if like.model_name == identity.model else ())}
        asked = {name: getattr(like, name) for name in named}
        model = "" if identity.model == cls(api=identity.preprocessing["api"]).model_name else identity.model
        told = {name: value for name, value in identity.preprocessing.items() if name in cls.model_fields}
        return cls.model_validate({**told, "model": model, "revision": identity.revision, **asked})


SERVED_KIND = EncoderKind(
    settings=ServedEncoder,
    worker="tasks.worker.encoders.served:ServedQueries",
    files="tasks.adapters.served.located:locate_served",
    shape="tasks.adapters.served.located:shape_of_served",
    modalities=("text",),
    needs_torch=False,
    encoders="tasks.adapters.engines.served_encoders:ServedEncoders",
    question="tasks.adapters.served.served_question:served_question",
)

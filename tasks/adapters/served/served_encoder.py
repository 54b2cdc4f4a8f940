"""The settings of an encoder that runs on a separate server: Kitestring sends texts and receives vectors."""

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
NO_VECTOR = {"url", "requests", "token_block", "tokenizer", *QUESTION_SETTINGS}  # settings that do not change the vectors of rows
TOKEN_VARIABLE = "ENCODER_TOKEN"  # noqa: S105 - its name


class ServedEncoder(EncoderSettings):
    """Text to vectors, by a running server."""

    model_config = ConfigDict(title="Served")

    kind: Literal["served"] = Field("served", description="Text to vectors, by a running model server; needs no torch on this machine.")
    api: Literal["openai", "tei", "triton"] = Field(
        "openai",
        title="API",
        description="openai: /embeddings (vLLM, infinity, Ollama, NVIDIA NIM, OpenAI). tei: text-embeddings-inference."
        " triton: the KServe v2 protocol over HTTP, with one input of texts (BYTES).",
    )
    url: str = Field(
        "http://localhost:8080",
        title="URL",
        description="Address of the server; for openai with the prefix, as in http://host:8000/v1. The token is read from"
        f" {TOKEN_VARIABLE}. Not part of the fingerprint.",
        json_schema_extra=PLACE,
    )
    model: str = Field(
        "",
        description="Name of the model on the server. tei: optional, its server has one model. triton: name/versions/2 selects a version.",
    )
    revision: TextSetting | Nothing = Field(
        None,
        description="Your own label for the served model. Another label is another encoder: change it when the server gets another model.",
    )
    prompt: TextSetting | Nothing = Field(None, description="Prefix for each row, as the model card requires.")
    query_prompt: TextSetting | Nothing = Field(
        None, title="Query prompt", description="Prefix for each question (search, gate, report). It does not change the vectors of rows."
    )
    parameters: Body = Field(
        default_factory=dict,
        description="Fields to add to each request for rows, such as {input_type: passage} (NVIDIA NIM), {prompt_name: document}"
        " (tei) or {truncate_prompt_tokens: -1} (vLLM).",
    )
    query_parameters: Body | Nothing = Field(
        None,
        title="Query parameters",
        description="Fields to add to each request for questions, such as {input_type: query}. Default: as for rows.",
    )
    output: TextSetting | Nothing = Field(None, description="triton: the output that has the vector. Default: the only output of floats.")
    tokenizer: TextSetting | Nothing = Field(
        None,
        title="Tokenizer",
        description="Tokenizer of the served model: a folder with its tokenizer.json, or a Hub name. source.chunks are measured with it; its content"
        " is then part of the fingerprint.",
    )
    truncate_dim: Count | Nothing = Field(None, description="Keep only the first N dimensions (Matryoshka models).")
    normalize: bool = Field(True, description="Scale each vector to length 1, after truncate_dim.")
    requests: Auto | Count = Field(
        "auto",
        description="Most requests in flight, of all hosts together. auto: raised up to 64 while throughput grows, lowered when the server is too busy."
        " compute.batch_rows limits the texts in a request.",
    )
    token_block: TextSetting | Nothing = Field(
        None, description=f"Name of a Prefect Secret block with the server's token. Replaces {TOKEN_VARIABLE} on the flow's machine."
    )
    precision: Literal["float32"] = Field("float32", description="Precision of stored vectors; the server computes with its own.")

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
                "a server does not report its model's tokenizer: set encoder.tokenizer to it (a folder with tokenizer.json, or"
                " a Hub name), or remove source.chunks"
            )
        if "prompt_name" in self.parameters:
            return "the server adds the prompt named by encoder.parameters.prompt_name, whose length is unknown: set encoder.prompt to its text instead"
        if cutting := [name for name in self.parameters if name.startswith("truncat")]:
            return f"with encoder.parameters.{cutting[0]} the server may truncate chunks: remove it"
        return ""

    @classmethod
    def restored(cls, identity: EncoderIdentity, *, like: EncoderSettings) -> ServedEncoder:
        """Settings from an identity, with the server's address and access from the job `like`, since an identity lacks them.

        Raises:
            BadInput: that job's encoder is not served.
        """
        if not isinstance(like, cls):
            raise BadInput(f"its model '{identity.model}' is served, but this job has no encoder.url for it")
        names = {"url", "requests", "token_block", "tokenizer", *(QUESTION_SETTINGS if like.model_name == identity.model else ())}
        of_job = {name: getattr(like, name) for name in names}
        model = "" if identity.model == cls(api=identity.preprocessing["api"]).model_name else identity.model
        of_identity = {name: value for name, value in identity.preprocessing.items() if name in cls.model_fields}
        return cls.model_validate({**of_identity, "model": model, "revision": identity.revision, **of_job})


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

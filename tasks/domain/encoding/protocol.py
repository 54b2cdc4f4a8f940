"""The protocol between the coordinator and the ranks: one JSON document a line, over a private Unix socket.

rank → coordinator    Hello, then RequestPiece, Heartbeat, Storing and Done in any order, Fault instead of Hello or Done
coordinator → rank    Welcome after Hello, then one Piece or NoMoreWork for each RequestPiece
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from tasks.domain.encoder_identity import EncoderFacts, Precision
from tasks.domain.encoding.tuning import Tuning
from tasks.domain.errors import Leaf
from tasks.domain.job.encoder import Encoder
from tasks.domain.job.job import Compute
from tasks.domain.job.references import References
from tasks.domain.shards.seal import Part
from tasks.domain.strict import Strict
from tasks.domain.target.fields import ScalarField


class Assignment(Strict):
    """The configuration of a torchrun launch, written to a private file that its ranks read."""

    format_version: Literal[1] = 1
    encoder: Encoder
    model_path: str = Field(description="Local folder or file with the weights, or open_clip's tag.")
    modality: Literal["text", "image"]
    precision: Literal["auto"] | Precision
    sample: tuple[str, ...] = Field((), description="Texts, or paths of images, to try precisions (`auto`) and batch sizes on.")
    tuning: Tuning | None = Field(None, description="The result of an earlier run on such a machine; None: measure.")
    tuning_key: str = Field("", description="Key in the store for the measured tuning; empty: it is not stored.")
    quantized_key: str = Field("", description="For int8: key of the quantised model in the store.")
    quantized: str = Field("", description="Digest of the quantised model, if an earlier run has made it.")
    rows: int | None = Field(None, description="Lower bound of the rows to encode; None: unknown.")
    compute: Compute
    store: str = Field(description="URL of the checkpoint store, to which ranks write their parts directly.")
    fields: tuple[ScalarField, ...]
    store_text: bool
    references: References | None = Field(None, description="What the rows may refer to.")
    socket: str
    startup_seconds: float = Field(1800, description="How long a starting rank waits for the others.")


class Piece(Strict):
    """Consecutive rows of a shard that become one part. The rows are in an Arrow IPC file in private scratch."""

    kind: Literal["piece"] = "piece"
    shard: str
    name: str = Field("", description="The shard's name for people.")
    first: int = Field(description="First source row, counted in the shard.")
    stop: int
    rows: str = Field(description="Path of the Arrow IPC file, in the form of tasks.adapters.rows.row_schema.")
    taken: str = Field("", description="Path of another such file: rows that already have a vector and are copied into the part.")
    key: str = Field(description="Key of the part in the store.")
    suspects: tuple[int, ...] = Field((), description="Source rows of the batch in which a rank died: encoded one at a time.")
    barred: tuple[int, ...] = Field((), description="Source rows that crashed a rank twice: quarantined without being encoded.")


class NoMoreWork(Strict):
    """There is no more work: the rank exits."""

    kind: Literal["rest"] = "rest"


class Welcome(Strict):
    """The coordinator has registered the rank."""

    kind: Literal["welcome"] = "welcome"


class Hello(Strict):
    """A rank has loaded its encoder."""

    kind: Literal["hello"] = "hello"
    rank: int
    pid: int
    facts: EncoderFacts
    seconds: dict[str, float] = Field(default_factory=dict, description="Start-up time by step.")


class RequestPiece(Strict):
    """A rank can take one more piece."""

    kind: Literal["want"] = "want"


class Heartbeat(Strict):
    """The position of a rank, sent before each batch; its sign of life while it encodes."""

    kind: Literal["at"] = "at"
    key: str
    rows: tuple[int, ...] = Field(description="Source rows of the batch.")
    done: int = Field(description="Encoded rows of the piece.")
    tokens: int = Field(0, description="Tokens of those rows, without padding.")


class Storing(Strict):
    """A piece is encoded and its part is being written to the store; the rank's sign of life during the upload, however slow the store."""

    kind: Literal["storing"] = "storing"
    key: str


class Done(Strict):
    """A part is in the store."""

    kind: Literal["done"] = "done"
    part: Part
    padded: int = Field(0, description="Tokens that the model processed for it, with padding; 0: pictures.")
    halved: int = Field(0, description="Batches of it that did not fit into memory.")
    memory: dict[str, int] = Field(default_factory=dict, description="Peak bytes so far: '' resident, 'GPU' on the device.")


class Fault(Strict):
    """A rank failed at a piece or at start-up. After Hello the rank keeps running."""

    kind: Literal["fault"] = "fault"
    key: str = Field("", description="The piece; empty: the encoder could not be loaded.")
    leaf: Leaf
    text: str


ToRank = TypeAdapter(Annotated[Piece | NoMoreWork | Welcome, Field(discriminator="kind")])
FromRank = TypeAdapter(Annotated[Hello | RequestPiece | Heartbeat | Storing | Done | Fault, Field(discriminator="kind")])

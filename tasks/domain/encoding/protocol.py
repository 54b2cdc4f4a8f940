"""What the coordinator and the ranks say to each other: one JSON document a line, over a private Unix socket.

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
    """What a torchrun launch is for; written to a private file that its ranks read."""

    format_version: Literal[1] = 1
    encoder: Encoder
    model_path: str = Field(description="Local folder or file that the weights are loaded from, or open_clip's tag.")
    modality: Literal["text", "image"]
    precision: Literal["auto"] | Precision
    sample: tuple[str, ...] = Field((), description="Texts, or paths of images, on which `auto` is tried, and budgets.")
    tuning: Tuning | None = Field(None, description="What an earlier run measured on such a machine; None: measure.")
    tuning_key: str = Field("", description="Where what is measured is kept in the store; empty: nowhere.")
    quantized_key: str = Field("", description="Of int8: where the quantised model is kept in the store.")
    quantized: str = Field("", description="Its digest, where an earlier run has made it.")
    rows: int | None = Field(None, description="At least so many are to be encoded; None: not known.")
    compute: Compute
    store: str = Field(description="URL of the checkpoint store: ranks put their parts there themselves.")
    fields: tuple[ScalarField, ...]
    store_text: bool
    references: References | None = Field(None, description="What rows may name.")
    socket: str
    startup_seconds: float = Field(1800, description="For which a rank that starts waits for the others.")


class Piece(Strict):
    """Consecutive rows of a shard that become one part. Its rows wait in an Arrow IPC file in private scratch."""

    kind: Literal["piece"] = "piece"
    shard: str
    name: str = Field("", description="The shard's name for people.")
    first: int = Field(description="Source row in the shard.")
    stop: int
    rows: str = Field(description="Path of the Arrow IPC file, in the form of tasks.adapters.rows.row_schema.")
    taken: str = Field("", description="Path of another one, of rows that have a vector already and go into the part as they are.")
    key: str = Field(description="Where the part goes in the store.")
    suspects: tuple[int, ...] = Field((), description="Source rows that were in hand when a rank died: taken one at a time.")
    barred: tuple[int, ...] = Field((), description="Source rows that crashed a rank twice: set aside unseen.")


class NoMoreWork(Strict):
    """No more work: leave."""

    kind: Literal["rest"] = "rest"


class Welcome(Strict):
    """The coordinator knows this rank."""

    kind: Literal["welcome"] = "welcome"


class Hello(Strict):
    """A rank has loaded its encoder."""

    kind: Literal["hello"] = "hello"
    rank: int
    pid: int
    facts: EncoderFacts
    seconds: dict[str, float] = Field(default_factory=dict, description="What start-up took, by step.")


class RequestPiece(Strict):
    """A rank can take one more piece."""

    kind: Literal["want"] = "want"


class Heartbeat(Strict):
    """Where a rank is; also its heartbeat while it encodes, sent before each batch."""

    kind: Literal["at"] = "at"
    key: str
    rows: tuple[int, ...] = Field(description="Source rows in hand.")
    done: int = Field(description="Rows of the piece that are encoded.")
    tokens: int = Field(0, description="Tokens of those rows, padding not counted.")


class Storing(Strict):
    """A piece is encoded, and its part on its way to the store; a rank's heartbeat while that lasts, however slow the store."""

    kind: Literal["storing"] = "storing"
    key: str


class Done(Strict):
    """A part is in the store."""

    kind: Literal["done"] = "done"
    part: Part
    padded: int = Field(0, description="Tokens that the model was given for it, padding counted; 0: pictures.")
    halved: int = Field(0, description="Batches of it that did not fit into memory.")
    memory: dict[str, int] = Field(default_factory=dict, description="Most bytes so far: '' resident, 'GPU' on the device.")


class Fault(Strict):
    """A rank could not do it, and says why; it lives on unless it had not said Hello."""

    kind: Literal["fault"] = "fault"
    key: str = Field("", description="The piece; empty: the encoder could not be loaded.")
    leaf: Leaf
    text: str


ToRank = TypeAdapter(Annotated[Piece | NoMoreWork | Welcome, Field(discriminator="kind")])
FromRank = TypeAdapter(Annotated[Hello | RequestPiece | Heartbeat | Storing | Done | Fault, Field(discriminator="kind")])

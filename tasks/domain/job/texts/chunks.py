"""Settings of chunks: how a long document becomes several rows."""

from __future__ import annotations

from typing import Annotated

from pydantic import ConfigDict, Field, model_validator

from tasks.domain.job.ui_schema import Auto, Count, Nothing
from tasks.domain.strict import ADDED_LATER, Strict

MOST_CHUNKS = 65_535  # of one document
CHUNK_FIELD_NAMES = ("document", "chunk", "start", "end")
CODE = "code:"
SPLIT = rf"^(text|markdown|{CODE}[a-z0-9_]+)$"
CHUNKS_DESCRIPTION = (
    "Split each text into chunks that the model reads whole, each a row of its own with the key {id}#{n} and the fields document, chunk, start and "
    "end. Left out: a text is a row, and what the model does not read of it is lost."
)


class Chunks(Strict):
    """How texts are split; another way is another encoder, with a collection of its own."""

    model_config = ConfigDict(title="chunks")

    tokens: Auto | Count = Field(
        "auto",
        title="Tokens",
        description="Most tokens of a chunk by the model's own tokenizer, prompt and special tokens counted. auto: what the model reads.",
    )
    overlap: int = Field(0, ge=0, title="Overlap", description="Most tokens that a chunk has in common with the one before it.")
    split: str = Field(
        "text",
        pattern=SPLIT,
        title="Split",
        description="Where chunks end: text (paragraphs, sentences, words), markdown (headings and blocks as well), or code:<language>, which needs "
        "the package tree-sitter-<language>.",
    )

    @model_validator(mode="after")
    def _overlap_leaves_room(self) -> Chunks:
        if self.tokens != "auto" and self.overlap >= self.tokens:
            raise ValueError(f"chunks: an overlap of {self.overlap} tokens leaves no room in chunks of {self.tokens}: set it lower")
        return self

    @property
    def language(self) -> str | None:
        """The programming language of the texts; None: they are none."""
        return self.split.removeprefix(CODE) if self.split.startswith(CODE) else None


ChunkSettings = Annotated[Chunks | Nothing, ADDED_LATER]
CHUNKS: Chunks | None = Field(None, title="Chunks", description=CHUNKS_DESCRIPTION)


def check_chunks(chunks: Chunks | None, *, embeds_text: bool, names: list[str | None]) -> None:
    """Find chunks of what is no text, and metadata under the name of a chunk's own field.

    Raises:
        ValueError: says what to change.
    """
    if chunks is None:
        return
    if not embeds_text:
        raise ValueError("chunks are for texts: leave chunks out where images are embedded")
    for name in names:
        if name in CHUNK_FIELD_NAMES:
            raise ValueError(f"'{name}' is a field that every chunk has: choose another name")

"""Settings of chunks, which split a long document into several rows."""

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
    "Split each text into chunks that fit the model's input, each a row of its own with the key {id}#{n} and the fields document, chunk, start and "
    "end. Left out: a text is a row, truncated at the model's maximum input length."
)


class Chunks(Strict):
    """Splitting of texts. Changing it changes the encoder's fingerprint, and so makes another collection."""

    model_config = ConfigDict(title="chunks")

    tokens: Auto | Count = Field(
        "auto",
        title="Tokens",
        description="Maximum tokens of a chunk by the model's own tokenizer, including prompt and special tokens. auto: the model's maximum input.",
    )
    overlap: int = Field(0, ge=0, title="Overlap", description="Maximum tokens that a chunk has in common with the previous one.")
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
        """The programming language of the texts; None: they are not code."""
        return self.split.removeprefix(CODE) if self.split.startswith(CODE) else None


ChunkSettings = Annotated[Chunks | Nothing, ADDED_LATER]
CHUNKS: Chunks | None = Field(None, title="Chunks", description=CHUNKS_DESCRIPTION)


def check_chunks(chunks: Chunks | None, *, embeds_text: bool, names: list[str | None]) -> None:
    """Check that chunks are of texts, and that no metadata field has the name of a chunk's own field.

    Raises:
        ValueError: says what to change.
    """
    if chunks is None:
        return
    if not embeds_text:
        raise ValueError("chunks are for texts: leave chunks out if images are embedded")
    for name in names:
        if name in CHUNK_FIELD_NAMES:
            raise ValueError(f"'{name}' is a field that every chunk has: choose another name")

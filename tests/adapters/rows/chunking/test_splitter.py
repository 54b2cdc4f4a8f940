"""A chunk is read whole by the encoder, stands where it says in its text, and nothing but white space is between chunks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasks.adapters.models.model_metadata import ModelShape
from tasks.adapters.rows.chunking import splitter as splitters
from tasks.adapters.rows.chunking.splitter import ChunkSplitter, Spans, TooLong, chunk_tokens
from tasks.domain.errors import BadInput
from tasks.domain.job.texts.chunks import Chunks
from tasks.worker.base import LoadedEncoder
from tests.adapters.rows.chunking.shapes import shape
from tests.builders.worker.text_encoder import opened, passages

PROMPT = "that is: "
TEXTS = st.lists(
    st.sampled_from(["the", "kite. ", "of\n\n", "# it\n", "Ünïcode", "漢字", "12.5%", "\t", "👩‍👩‍👧", "\n", "x" * 120, "- a\n"]), min_size=1
).map(" ".join)


def split(splitter: ChunkSplitter, text: str) -> tuple[Spans, list[str]]:
    data = text.encode()
    spans = splitter.split(memoryview(data))
    found = [text[start:stop] for start, stop in zip(spans.starts, spans.stops, strict=True)]
    assert found == [data[start:stop].decode() for start, stop in zip(spans.first_bytes, spans.stop_bytes, strict=True)]
    return spans, found


@pytest.fixture(scope="module")
def encoder(tiny_model: Path) -> LoadedEncoder:
    return opened(tiny_model, prompt=PROMPT)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=TEXTS, tokens=st.integers(16, 64), overlap=st.integers(0, 4), kind=st.sampled_from(["text", "markdown"]))
def test_no_chunk_is_cut_by_the_encoder_and_no_word_is_lost(
    tiny_model: Path, encoder: Any, text: str, tokens: int, overlap: int, kind: str
) -> None:
    spans, chunks = split(ChunkSplitter(Chunks(tokens=tokens, overlap=overlap, split=kind), shape(tiny_model, PROMPT), 64), text)
    counted = encoder._tokens.read(chunks)[2]  # as a rank counts them, before it cuts
    assert list(spans.tokens) == counted
    assert all(size <= tokens for size in counted)
    at = 0
    for start, stop in zip(spans.starts, spans.stops, strict=True):
        assert not text[at:start].strip()
        at = stop
    assert not text[at:].strip()
    assert sorted(spans.starts) == list(spans.starts)


@pytest.mark.parametrize("overlap", [0, 8])
def test_windows_change_nothing(tiny_model: Path, overlap: int) -> None:
    text, chunks = "\n\n".join(passages(200)), Chunks(tokens=24, overlap=overlap)
    whole = split(ChunkSplitter(chunks, shape(tiny_model), 64, window=1 << 20), text)[0]
    assert len(whole) > 100
    assert split(ChunkSplitter(chunks, shape(tiny_model), 64, window=2_000), text)[0] == whole
    assert (whole.overlap_tokens > 0) is (overlap > 0)


def test_markdown_ends_a_chunk_at_a_heading(tiny_model: Path) -> None:
    text = "# one\n\nthe of and\n\n# two\n\nit to of the and\n"
    assert split(ChunkSplitter(Chunks(tokens=12, split="markdown"), shape(tiny_model), 64), text)[1][1].startswith("# two")


def test_code_ends_a_chunk_where_a_function_does(tiny_model: Path) -> None:
    code = "def one(a):\n    return a\n\n\ndef two(b):\n    return b\n"
    found = split(ChunkSplitter(Chunks(tokens=30, split="code:python"), shape(tiny_model), 64), code)[1]
    assert found == ["def one(a):\n    return a", "def two(b):\n    return b"]


def test_a_language_without_a_grammar_is_refused_with_the_package_that_it_needs(tiny_model: Path) -> None:
    with pytest.raises(BadInput, match=r"code:fortran needs a grammar: pip install tree-sitter-fortran"):
        ChunkSplitter(Chunks(split="code:fortran"), shape(tiny_model), 64)


@pytest.mark.parametrize(
    ("chunks", "limit", "words"),
    [
        (Chunks(), None, "set a number"),
        (Chunks(tokens=65), 64, "65 is more than the 64 tokens that the model reads"),
        (Chunks(tokens=8, overlap=4), 64, "leave no room for text in chunks of 8 tokens"),
    ],
)
def test_chunks_that_the_model_cannot_read_are_refused(tiny_model: Path, chunks: Chunks, limit: int | None, words: str) -> None:
    with pytest.raises(BadInput, match=words):
        ChunkSplitter(chunks, shape(tiny_model), limit)
    assert chunk_tokens(Chunks(), 64) == 64


def test_a_model_without_a_tokenizer_file_is_refused() -> None:
    with pytest.raises(BadInput, match=r"no tokenizer\.json"):
        ChunkSplitter(Chunks(), ModelShape(dim=1), 64)


def test_more_chunks_than_a_document_may_have_are_too_many(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(splitters, "MOST_CHUNKS", 3)
    with pytest.raises(TooLong, match="too many chunks: more than 3 in one document"):
        split(ChunkSplitter(Chunks(tokens=16), shape(tiny_model), 64), "the of and " * 100)

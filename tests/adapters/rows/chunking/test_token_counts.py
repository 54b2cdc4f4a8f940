"""Parts of a text are counted as the tokenizer counts them by themselves, and chunks are those that the library makes with the tokenizer itself."""

from __future__ import annotations

import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import pytest
from semantic_text_splitter import CodeSplitter, MarkdownSplitter, TextSplitter
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

from tasks.adapters.models.model_metadata import ModelShape
from tasks.adapters.rows.chunking import token_counts
from tasks.adapters.rows.chunking.splitter import ChunkSplitter, read_tokenizer
from tasks.adapters.rows.chunking.token_counts import BEFORE_CHINESE, BETWEEN_WORDS, PartCounter, marks_of
from tasks.domain.job.texts.chunks import Chunks

PIECES = [
    "the", "kite", "string.", "of", "o'clock", "ÜNÏcöde", "e\u0301te", "漢字", "漢", "12.5%", "👩‍👩‍👧", "x" * 120, "[MASK]", "# it", "- a", "`b`",
    "def", "f(a):", "ΟΔΟΣ", "\u200b", "(one)", "return", "İi", "ﬁne", "\u0301", "<s>", "##ing", "a▁b",
]  # fmt: skip
GAPS = [" ", " ", " ", " ", "\n", "\n\n", "  ", "\t", "", "\r\n", "\x1c", "\u00a0", "\n    "]
QWEN = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def a_text(seed: int, words: int = 400) -> str:
    some = random.Random(seed)
    return "".join(some.choice(PIECES) + some.choice(GAPS) for _ in range(words))


def unigram() -> Tokenizer:
    made = Tokenizer(models.Unigram())
    made.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")])
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    return trained(made, trainers.UnigramTrainer(vocab_size=120, unk_token="<unk>", special_tokens=["<s>", "<unk>"]))


def byte_level() -> Tokenizer:
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return trained(made, trainers.BpeTrainer(vocab_size=500, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), special_tokens=["<s>"]))


def split_by_pattern(pattern: str = QWEN) -> Tokenizer:
    made = Tokenizer(models.BPE())
    made.normalizer = normalizers.NFC()
    split, by_bytes = pre_tokenizers.Split(Regex(pattern), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.pre_tokenizer = pre_tokenizers.Sequence([split, by_bytes])
    return trained(made, trainers.BpeTrainer(vocab_size=500, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))


def trained(tokenizer: Tokenizer, trainer: trainers.Trainer) -> Tokenizer:
    tokenizer.train_from_iterator([a_text(seed) for seed in range(8)], trainer)
    return tokenizer


MADE = {made.__name__: cache(made) for made in (unigram, byte_level, split_by_pattern)}


@pytest.fixture(params=["bert", *MADE])
def tokenizer(request: pytest.FixtureRequest, tiny_model: Path) -> Tokenizer:
    return read_tokenizer(tiny_model / "tokenizer.json") if request.param == "bert" else MADE[request.param]()


def test_a_part_has_the_tokens_that_it_has_by_itself(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    counter = PartCounter(tokenizer)
    assert counter.adds_up
    for seed in range(8):
        monkeypatch.setattr(token_counts, "STRETCH", 1 + seed)
        text, some = a_text(100 + seed), random.Random(seed)
        counter.open(text)
        for _ in range(30):
            start, stop = sorted(some.sample(range(len(text) + 1), 2))
            part = text[start:stop].strip()
            assert counter(part) == len(tokenizer.encode(part, add_special_tokens=False)), part


@pytest.mark.parametrize(("split", "kind"), [("text", TextSplitter), ("markdown", MarkdownSplitter), ("code:python", CodeSplitter)])
@pytest.mark.parametrize("overlap", [0, 9])
def test_chunks_are_those_that_are_made_by_asking_the_tokenizer_each_time(
    tokenizer: Tokenizer, split: str, kind: Callable[..., None], overlap: int, tmp_path: Path
) -> None:
    import tree_sitter_python  # noqa: PLC0415

    tokenizer.save(str(tmp_path / "tokenizer.json"))
    splitter = ChunkSplitter(Chunks(tokens=40, overlap=overlap, split=split), ModelShape(dim=1, tokenizer=tmp_path / "tokenizer.json"), 64)
    grammar = [tree_sitter_python.language()] if split == "code:python" else []
    room = 40 - len(tokenizer.encode(""))
    library = kind.from_huggingface_tokenizer(*grammar, tokenizer, room, overlap=overlap)  # type: ignore[attr-defined]
    for seed in range(3):
        text = a_text(seed)
        spans = splitter.split(memoryview(text.encode()))
        assert [(start, text[start:stop]) for start, stop in zip(spans.starts, spans.stops, strict=True)] == library.chunk_indices(text)


def test_a_long_text_is_tokenized_a_few_times_however_many_chunks_are_tried(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: list[int] = []
    count, part = token_counts.count_tokens, PartCounter._count
    monkeypatch.setattr(
        token_counts, "count_tokens", lambda tokenizer, texts, **how: counted.extend(map(len, texts)) or count(tokenizer, texts, **how)
    )
    monkeypatch.setattr(PartCounter, "_count", lambda self, text: counted.append(len(text)) or part(self, text))
    text = "the of and it to " * 10_000
    splitter = ChunkSplitter(Chunks(tokens=256), ModelShape(dim=1, tokenizer=tiny_model / "tokenizer.json"), 256)
    counted.clear()
    splitter.split(memoryview(text.encode()))
    assert len(text) <= sum(counted) < 2 * len(text)


def test_threads_that_share_a_splitter_count_in_texts_of_their_own() -> None:
    counter, text = PartCounter(byte_level()), a_text(1)
    counter.open(text)
    with ThreadPoolExecutor(1) as other:
        other.submit(counter.open, "another text").result()
    assert counter._text == text


def without_words(tokenizer: Tokenizer) -> Tokenizer:
    tokenizer.pre_tokenizer = None
    return tokenizer


def with_prefix(tokenizer: Tokenizer) -> Tokenizer:
    tokenizer.normalizer = normalizers.Prepend("▁")
    return tokenizer


def with_words_added(tokenizer: Tokenizer) -> Tokenizer:
    tokenizer.add_tokens(["kite string"])
    return tokenizer


@pytest.mark.parametrize("changed", [without_words, with_prefix, with_words_added])
def test_a_tokenizer_that_may_join_words_is_asked_each_time(changed: Callable[[Tokenizer], Tokenizer]) -> None:
    assert marks_of(byte_level()) is BETWEEN_WORDS
    assert not PartCounter(changed(byte_level())).adds_up
    assert not PartCounter(split_by_pattern(r"[^.]+\.")).adds_up
    assert PartCounter(changed(byte_level())).at_least(memoryview(b"one two")) == 0


def test_a_text_has_a_token_for_each_word_at_least(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_counts, "BLOCK_BYTES", 7)
    counter = PartCounter(tokenizer)
    of_words = 2 if marks_of(tokenizer) is BETWEEN_WORDS else 6  # by white space, or by each mark and number as well
    assert counter.at_least(memoryview(b"the Of  and\nit, 1 [to")) == of_words
    assert counter.at_least(memoryview(b"")) == 0
    text = a_text(1)
    assert 0 < counter.at_least(memoryview(text.encode())) <= len(tokenizer.encode(text))


def test_bert_begins_anew_at_white_space_and_at_chinese_characters(tiny_model: Path) -> None:
    assert marks_of(read_tokenizer(tiny_model / "tokenizer.json")) is BEFORE_CHINESE

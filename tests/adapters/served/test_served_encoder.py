"""The settings of a served encoder, and what counts as the same model."""

from __future__ import annotations

import shutil
from array import array
from base64 import b64encode
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tasks.adapters.engines.documents.shard_rows import split_rows
from tasks.adapters.models.model_files import locate_model
from tasks.adapters.served.served_encoder import ServedEncoder
from tasks.domain.encoder_identity import EncoderFacts, EncoderIdentity
from tasks.domain.errors import BadInput
from tasks.domain.job.encoder import Encoder
from tasks.domain.job.parse import parse_job
from tasks.domain.served_identity import PROBES, ServedIdentity, other_server, served_identity

CHUNKED = {"kind": "jsonl", "text": "text", "chunks": {"tokens": 16}}
VECTORS = [[float((at + 1) * (n % 7 - 3)) for n in range(40)] for at in range(len(PROBES))]


def encoder_of(**settings: object) -> Encoder:
    return parse_job({"encoder": {"kind": "served", "model": "bge", **settings}}).encoder


@pytest.mark.parametrize(
    "settings",
    [
        {"url": "http://other:1"},
        {"requests": 4},
        {"token_block": "b"},
        {"query_prompt": "q"},
        {"query_parameters": {"a": 1}},
        {"tokenizer": "t"},
    ],
)
def test_where_it_is_and_how_questions_are_put_is_no_part_of_what_it_is(settings: dict[str, object]) -> None:
    plain, other = encoder_of(), encoder_of(**settings)
    assert (plain.declared, plain.preprocessing) == (other.declared, other.preprocessing)


@pytest.mark.parametrize(
    "settings", [{"prompt": "p"}, {"parameters": {"a": 1}}, {"api": "tei"}, {"truncate_dim": 8}, {"normalize": False}, {"output": "o"}]
)
def test_what_changes_a_row_is_part_of_what_it_is(settings: dict[str, object]) -> None:
    plain, other = encoder_of(), encoder_of(**settings)
    assert plain.declared != other.declared
    assert plain.preprocessing != other.preprocessing


def test_an_identity_gives_the_settings_back_that_it_was_made_from() -> None:
    encoder = encoder_of(
        api="tei", prompt="p", parameters={"a": 1}, revision="2", url="http://here:1", requests=3, query_prompt="q", tokenizer="t"
    )
    identity = EncoderIdentity(
        kind="served",
        model=encoder.model_name,
        revision="2",
        weights="w",
        preprocessing={**encoder.preprocessing, "chunks": {"tokens": 9}},
        precision="float32",
    )
    assert ServedEncoder.restored(identity, like=encoder) == encoder
    with pytest.raises(BadInput, match=r"its model 'bge' is served, but this job has no encoder\.url for it"):
        ServedEncoder.restored(identity, like=parse_job({}).encoder)


def test_an_identity_keeps_the_beginnings_of_vectors_and_knows_them_again_with_a_tolerance() -> None:
    pinned = served_identity({"sha": "a"}, VECTORS)
    assert EncoderFacts.model_validate({"dim": 40, "max_seq_length": None, "precision": "float32", "device": "d", "server": pinned}).server
    assert pinned.canary == array("f", VECTORS[0][:32])
    rounded = served_identity({"sha": "a"}, [[number * 1.01 for number in vector] for vector in VECTORS])
    assert other_server(rounded, pinned) == ""
    assert rounded.digest != pinned.digest
    assert other_server(served_identity({"sha": "a"}, VECTORS[::-1]), pinned).startswith(
        "its vectors of fixed texts are not the pinned ones"
    )
    assert other_server(served_identity({"sha": "a"}, [vector[:8] for vector in VECTORS]), pinned)
    assert other_server(served_identity({}, VECTORS), pinned) == "sha is None, and was 'a'"
    nan = ServedIdentity(told={"sha": "a"}, probes=b64encode(array("f", [float("nan")] * len(pinned.heads)).tobytes()).decode())
    assert other_server(nan, pinned)


def test_a_password_in_the_address_is_refused() -> None:
    with pytest.raises(BadInput, match=r"'encoder\.url' contains a password"):
        encoder_of(url="http://me:secret@host:1")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, "a server does not report its model's tokenizer: set encoder.tokenizer to it"),
        ({"tokenizer": "t", "parameters": {"prompt_name": "document"}}, "set encoder.prompt to its text instead"),
        (
            {"tokenizer": "t", "parameters": {"truncate_prompt_tokens": 8}},
            "with encoder.parameters.truncate_prompt_tokens the server may truncate",
        ),
    ],
)
def test_chunks_need_a_tokenizer_and_a_server_that_adds_and_cuts_nothing(settings: dict[str, object], words: str) -> None:
    with pytest.raises(BadInput, match=words):
        parse_job({"encoder": {"kind": "served", "model": "bge", **settings}, "source": CHUNKED})


def test_a_tokenizer_is_known_by_its_content_and_one_that_is_not_there_is_named(tiny_model: Path, tmp_path: Path) -> None:
    found = locate_model(encoder_of(tokenizer=str(tiny_model)))
    shutil.copy(tiny_model / "tokenizer.json", tmp_path)
    moved = locate_model(encoder_of(tokenizer=str(tmp_path)))
    assert (found.tokenizer, found.tokenizer_digest) == (tiny_model / "tokenizer.json", moved.tokenizer_digest)
    assert found.weights == locate_model(encoder_of()).weights
    for wrong, words in ((str(tmp_path / "none"), "there is no folder"), (str(tmp_path.parent), "has no tokenizer.json")):
        with pytest.raises(BadInput, match=f"encoder.tokenizer: .*{words}"):
            locate_model(encoder_of(tokenizer=wrong))


def test_a_host_with_another_tokenizer_than_the_runs_makes_no_chunks(tiny_model: Path) -> None:
    job = parse_job({"encoder": {"kind": "served", "model": "bge", "tokenizer": str(tiny_model)}, "source": CHUNKED})
    identity = SimpleNamespace(preprocessing={"chunks": {"tokens": 16, "tokenizer": "of the run"}})
    place, record = SimpleNamespace(job=job, model=locate_model(job.encoder)), SimpleNamespace(identity=identity)
    with pytest.raises(BadInput, match="differs from the one that the run began with"):
        split_rows(cast("Any", place), iter(()), cast("Any", record))

"""The settings of a served encoder, and what counts as the same model."""

from __future__ import annotations

from array import array
from base64 import b64encode

import pytest

from tasks.adapters.served.served_encoder import ServedEncoder
from tasks.domain.encoder_identity import EncoderFacts, EncoderIdentity
from tasks.domain.errors import BadInput
from tasks.domain.job.encoder import Encoder
from tasks.domain.job.parse import parse_job
from tasks.domain.served_identity import PROBES, ServedIdentity, other_server, served_identity

VECTORS = [[float((at + 1) * (n % 7 - 3)) for n in range(40)] for at in range(len(PROBES))]


def encoder_of(**settings: object) -> Encoder:
    return parse_job({"encoder": {"kind": "served", "model": "bge", **settings}}).encoder


@pytest.mark.parametrize(
    "settings", [{"url": "http://other:1"}, {"requests": 4}, {"token_block": "b"}, {"query_prompt": "q"}, {"query_parameters": {"a": 1}}]
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
    encoder = encoder_of(api="tei", prompt="p", parameters={"a": 1}, revision="2", url="http://here:1", requests=3, query_prompt="q")
    identity = EncoderIdentity(
        kind="served", model=encoder.model_name, revision="2", weights="w", preprocessing=encoder.preprocessing, precision="float32"
    )
    assert ServedEncoder.restored(identity, like=encoder) == encoder
    with pytest.raises(BadInput, match="its model 'bge' is served, and this job does not say where"):
        ServedEncoder.restored(identity, like=parse_job({}).encoder)


def test_an_identity_keeps_the_beginnings_of_vectors_and_knows_them_again_with_a_tolerance() -> None:
    pinned = served_identity({"sha": "a"}, VECTORS)
    assert EncoderFacts.model_validate({"dim": 40, "max_seq_length": None, "precision": "float32", "device": "d", "server": pinned}).server
    assert pinned.canary == array("f", VECTORS[0][:32])
    rounded = served_identity({"sha": "a"}, [[number * 1.01 for number in vector] for vector in VECTORS])
    assert other_server(rounded, pinned) == ""
    assert rounded.digest != pinned.digest
    assert other_server(served_identity({"sha": "a"}, VECTORS[::-1]), pinned).startswith("its vectors of fixed texts are not those")
    assert other_server(served_identity({"sha": "a"}, [vector[:8] for vector in VECTORS]), pinned)
    assert other_server(served_identity({}, VECTORS), pinned) == "sha is None, and was 'a'"
    nan = ServedIdentity(told={"sha": "a"}, probes=b64encode(array("f", [float("nan")] * len(pinned.heads)).tobytes()).decode())
    assert other_server(nan, pinned)


def test_a_password_in_the_address_is_refused() -> None:
    with pytest.raises(BadInput, match=r"'encoder\.url' holds a password"):
        encoder_of(url="http://me:secret@host:1")

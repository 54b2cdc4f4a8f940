"""A document is sealed with every chunk or set aside whole, also when its rows are tried again or parts are adopted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tasks.adapters.checkpoint.checkpoint import Checkpoint
from tasks.adapters.engines.group_encoder import GroupEncoder
from tasks.adapters.engines.row_retry import RowRetry
from tasks.adapters.engines.row_reuse import RowReuse
from tasks.adapters.engines.workplace import Workplace, open_workplace
from tasks.adapters.models.model_files import locate_model
from tasks.domain.encoder_identity import EncoderIdentity, EncoderRecord
from tasks.domain.encoding.encoding_events import EncodingEvent, ShardSealed
from tasks.domain.encoding.encoding_spec import EncodingSpec, ShardGroup
from tasks.domain.job.parse import parse_job
from tasks.domain.shards.seal import Seal
from tasks.domain.shards.shard import name_shard
from tasks.domain.target.chunk_fields import CHUNK_FIELDS
from tests.builders.engines import hash_encoders
from tests.builders.engines.hash_encoders import HashEncoders

RUN = "20261126T080000000-abcdef"
LONG = "the of and it to " * 30  # 11 chunks of 16 tokens


class Work:
    """One shard of documents, and encoders that embed no text with the word `poison`."""

    def __init__(self, folder: Path, model: Path, documents: dict[str, str]) -> None:
        file = folder / "docs" / "a.jsonl"
        file.parent.mkdir()
        file.write_text("".join(json.dumps({"id": key, "text": text}) + "\n" for key, text in documents.items()))
        job = parse_job(
            {
                "corpus": "docs",
                "source": {"kind": "jsonl", "uri": str(file), "id": "id", "text": "text", "chunks": {"tokens": 16}},
                "encoder": {"model": str(model)},
                "checkpoint": str(folder / "checkpoint"),
                "compute": {"unsaved_rows": 6},  # pieces of three chunks
            }
        )
        located = locate_model(job.encoder)
        spec = EncodingSpec(run=RUN, job=job, fields=CHUNK_FIELDS, weights=located.weights, declared="d")
        (folder / "scratch").mkdir()
        self.told: list[EncodingEvent] = []
        self.place: Workplace = open_workplace(spec, scratch=folder / "scratch", tell=self.told.append, model=located)
        self.encoders = HashEncoders(self.place)
        identity = EncoderIdentity(kind="k", model="m", revision=None, weights=located.weights, preprocessing={}, precision="float32")
        self.record = EncoderRecord(identity=identity, facts=self.encoders.facts())
        self.checkpoint = Checkpoint(self.place.store, "docs", identity.fingerprint, self.place.damages)
        (self.shard,) = [name_shard(span, rows_as={}, fingerprint=identity.fingerprint) for span in self.place.source.spans()]

    def group(self, attempt: str = RUN) -> ShardGroup:
        return ShardGroup(shards=(self.shard,), record=self.record, attempt=attempt)

    def encode(self) -> Seal:
        assert not GroupEncoder(
            self.place, self.encoders, self.checkpoint, self.group(), reuse=RowReuse(self.place), pin=lambda: None
        ).run()
        return self.seal()

    def seal(self) -> Seal:
        seal = self.checkpoint.effective_seal(self.shard.id)
        assert seal
        return seal

    def keys(self) -> list[str]:
        return sorted(key for part in self.seal().parts for key in self.checkpoint.sealed_part(part)["id"].to_pylist())


def keys(document: str, chunks: int) -> list[str]:
    return [f"{document}#{number}" for number in range(chunks)]


def test_chunks_are_counted_beside_documents(tmp_path: Path, tiny_model: Path) -> None:
    work = Work(tmp_path, tiny_model, {"a": LONG, "b": "it", "": "of"})
    seal = work.encode()
    assert (seal.source_rows, seal.embedded, len(seal.quarantined)) == (3, 2, 1)  # one has no key
    assert (seal.rows, seal.chunks.per_document) == (12, {16: 1, 1: 1})
    assert work.keys() == sorted([*keys("a", 11), "b#0"])
    assert len(seal.parts) == 4
    (event,) = [event for event in work.told if isinstance(event, ShardSealed)]
    assert event.encoded == 2


def test_a_document_of_which_a_chunk_fails_is_set_aside_whole_and_the_chunk_is_named(tmp_path: Path, tiny_model: Path) -> None:
    bad = LONG[:330] + "poison " + LONG[337:]
    work = Work(tmp_path, tiny_model, {"a": "it", "b": bad, "c": LONG})
    seal = work.encode()
    (aside,) = seal.quarantined
    assert (aside.row, aside.id) == (1, "b")
    assert aside.reason.startswith("not finite: chunk ")
    assert aside.reason.endswith(": poison")
    assert work.keys() == sorted(["a#0", *keys("c", 11)])
    assert (seal.source_rows, seal.embedded, seal.rows) == (3, 2, 12)


def test_a_retry_that_succeeds_brings_every_chunk_of_the_document(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = Work(tmp_path, tiny_model, {"a": LONG + " poison", "b": "it", "c": "poison"})
    assert [aside.id for aside in work.encode().quarantined] == ["a", "c"]
    assert not RowRetry(work.place, work.encoders, work.checkpoint, work.group()).run()
    assert work.keys() == ["b#0"]
    monkeypatch.setattr(hash_encoders, "POISON", "no such word")
    assert not RowRetry(work.place, work.encoders, work.checkpoint, work.group("20261126T090000000-abcdef")).run()
    seal = work.seal()
    assert not seal.quarantined
    assert (seal.embedded, seal.rows, len(work.keys())) == (3, seal.rows, seal.rows)
    assert work.keys() == sorted([*keys("a", seal.rows - 2), "b#0", "c#0"])


def test_finished_parts_of_an_earlier_attempt_are_adopted(tmp_path: Path, tiny_model: Path) -> None:
    work = Work(tmp_path, tiny_model, {"a": LONG, "b": LONG})
    before = work.encode()
    work.place.store.delete(work.checkpoint.layout.seal(work.shard.id))
    work.place.store.delete(before.parts[2].key)
    again = work.encode()
    assert [part.first for part in again.parts] == [part.first for part in before.parts]
    assert work.keys() == sorted([*keys("a", 11), *keys("b", 11)])
    event = [event for event in work.told if isinstance(event, ShardSealed)][-1]
    assert event.adopted == len(before.parts) - 1

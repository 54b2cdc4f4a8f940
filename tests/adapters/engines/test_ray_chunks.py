"""Documents of several chunks on the hosts of a real Ray cluster, with the ranks that torchrun starts there."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tasks.adapters.checkpoint.checkpoint import Checkpoint
from tasks.adapters.engines.cluster_hosts.fleet import Fleet
from tasks.adapters.engines.ray_engine import open_ray
from tasks.adapters.models.model_files import locate_model
from tasks.adapters.object_store.registry import open_store
from tasks.adapters.sources.registry import open_source
from tasks.domain.encoder_identity import EncoderIdentity, EncoderRecord
from tasks.domain.encoding.encoding_events import EncodingEvent, ShardSealed
from tasks.domain.encoding.encoding_spec import EncodingSpec, ShardGroup
from tasks.domain.job.parse import parse_job
from tasks.domain.shards.shard import Shard, name_shard
from tasks.domain.target.chunk_fields import CHUNK_FIELDS
from tests.builders.kitestring import make_job
from tests.flows.changed_sources.documents import words, write_documents
from tests.servers.ray import RayServer

pytestmark = [pytest.mark.server, pytest.mark.timeout(300)]
RUN, LATER = "20261126T080000000-abcdef", "20261126T090000000-abcdef"
FILES, DOCUMENTS, CHUNKS, WORDS = 6, 5, 3, 14  # words of a chunk


class Documents:
    """Files of documents, and a cluster that encodes them."""

    def __init__(self, folder: Path, model: Path, ray_server: RayServer) -> None:
        self.folder = folder / "docs"
        self.texts = {f"{file}-{n}": words(CHUNKS * WORDS, seed=10 * file + n) for file in range(FILES) for n in range(DOCUMENTS)}
        self.write(*range(FILES))
        source = {"kind": "jsonl", "uri": str(self.folder), "id": "id", "text": "text", "chunks": {"tokens": WORDS + 2}}
        document = make_job(folder, model, source=source, compute__engine=ray_server.engine(), compute__processes=1)
        job = parse_job(document)
        weights = locate_model(job.encoder).weights
        self.spec = EncodingSpec(run=RUN, job=job, fields=CHUNK_FIELDS, weights=weights, declared="d" * 32)
        self.told: list[EncodingEvent] = []
        self.fleet: Fleet = open_ray(self.spec, scratch=folder / "scratch", tell=self.told.append)
        facts = self.fleet.facts()
        identity = EncoderIdentity(kind="k", model="m", revision=None, weights=weights, preprocessing={}, precision=facts.precision)
        self.record = EncoderRecord(identity=identity, facts=facts)
        self.checkpoint = Checkpoint(open_store(job.checkpoint), job.corpus, identity.fingerprint)

    def write(self, *files: int) -> None:
        for file in files:
            write_documents(self.folder / f"{file}.jsonl", {key: text for key, text in self.texts.items() if key.startswith(f"{file}-")})

    def shards(self) -> list[Shard]:
        spans = open_source(self.spec.job.source, rows=self.spec.job.shards.rows).spans()
        return [name_shard(span, rows_as={}, fingerprint=self.record.identity.fingerprint) for span in spans]

    def encode(self, shards: list[Shard], attempt: str, donors: list[Shard]) -> int:
        """Documents that were encoded, and not taken over."""
        before = len(self.told)
        names = tuple(donor.id for donor in donors)
        self.fleet.encode(ShardGroup(shards=tuple(shards), record=self.record, attempt=attempt, donors=names))
        return sum(event.encoded for event in self.told[before:] if isinstance(event, ShardSealed))

    def chunks(self, shards: list[Shard]) -> dict[str, str]:
        """Every chunk's text by its key; of a key that comes twice, the count is told."""
        tables = [self.checkpoint.verified_part(part) for shard in shards for part in self.checkpoint.effective_seal(shard.id).parts]
        rows = [(row["id"], row["text"]) for table in tables for row in table.select(["id", "text"]).to_pylist()]
        assert not [key for key, times in Counter(key for key, _ in rows).items() if times > 1]
        return dict(rows)

    def expected(self) -> dict[str, str]:
        cut = {key: text.split() for key, text in self.texts.items()}
        return {f"{key}#{n}": " ".join(text[n * WORDS : (n + 1) * WORDS]) for key, text in cut.items() for n in range(len(text) // WORDS)}


def test_every_chunk_comes_once_and_of_an_edited_document_alone_again(tmp_path: Path, tiny_model: Path, ray_server: RayServer) -> None:
    (tmp_path / "scratch").mkdir()
    work = Documents(tmp_path, tiny_model, ray_server)
    try:
        first = work.shards()
        assert work.encode(first, RUN, []) == FILES * DOCUMENTS
        assert {key: text.strip() for key, text in work.chunks(first).items()} == work.expected()

        work.texts["2-3"] = words((CHUNKS - 1) * WORDS, seed=99)
        work.write(2)
        second = work.shards()
        (changed,) = [shard for shard in second if shard.id not in {known.id for known in first}]
        assert work.encode(second, LATER, [shard for shard in first if shard not in second]) == 1
        assert {key: text.strip() for key, text in work.chunks(second).items()} == work.expected()
        seal = work.checkpoint.effective_seal(changed.id)
        assert (seal.source_rows, seal.embedded) == (DOCUMENTS, DOCUMENTS)
    finally:
        work.fleet.close()

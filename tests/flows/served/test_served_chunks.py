"""Documents that are split for a served model: by its own tokenizer, so that its server cuts nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from tasks.adapters.rows.chunking.token_counts import count_tokens
from tasks.commands.search import Searcher
from tasks.domain.errors import BadInput
from tasks.domain.job.parse import parse_job
from tasks.stages.verify import look_at_proof
from tests.builders.engines.embedding_server import HUGE, embedding_server
from tests.builders.inprocess import RunFlow
from tests.builders.memory_jobs import a_job, keys_in
from tests.flows.changed_sources.documents import chunks, job_of, words, write_documents

pytestmark = [pytest.mark.server, pytest.mark.timeout(300)]
LIMIT = 16  # tokens: 13 words beside the prompt and two special ones


def test_documents_are_split_by_the_tokenizer_of_the_served_model(run_flow: RunFlow, tmp_path: Path, tiny_model: Path) -> None:
    documents = {"a": words(70), "b": words(26, 2), "c": "it of it", "d": f"{words(20, 3)} {HUGE}"}
    write_documents(tmp_path / "docs" / "a.jsonl", documents)
    source = job_of(tmp_path, tiny_model)["source"] | {"chunks": {}}
    with embedding_server() as server:
        server.told["max_input_length"] = LIMIT
        encoder = server.settings("tei", tokenizer=str(tiny_model), prompt="the ")
        job = a_job(tmp_path, tmp_path, source=source, encoder=encoder, failures__max_quarantined=0.5)
        result = run_flow(job)
        assert keys_in(job) == [*chunks("a", 6), *chunks("b", 2), "c#0"]
        assert (result["rows"]["embedded"], result["rows"]["quarantined"], result["chunks"]["rows"], result["verified"]) == (3, 1, 9, True)
        counts = count_tokens(Tokenizer.from_file(str(tiny_model / "tokenizer.json")), server.texts)
        assert (max(counts), look_at_proof(parse_job(job), full=True).proved) == (LIMIT, True)
        with Searcher(parse_job(job)) as searcher:
            found = searcher.search(documents["b"][:40], 3)
        assert sorted(str(hit.fields["document"]) for hit in found) == ["a", "b", "c"]

        # The same tokenizer elsewhere changes nothing, another one is another collection, and a server that tells no limit has none.
        other = tmp_path / "tokenizer"
        other.mkdir()
        told = (tiny_model / "tokenizer.json").read_text()
        (other / "tokenizer.json").write_text(told)
        moved = job | {"encoder": encoder | {"tokenizer": str(other)}}
        assert run_flow(moved)["rows"]["reused"] == 3
        (other / "tokenizer.json").write_text(json.dumps(json.loads(told) | {"version": "1.0"}, indent=2))
        assert run_flow(moved)["rows"]["embedded"] == 3
        with pytest.raises(BadInput, match=r"source\.chunks\.tokens: the number of tokens that the model reads is unknown"):
            run_flow(job | {"encoder": encoder | {"api": "triton"}})

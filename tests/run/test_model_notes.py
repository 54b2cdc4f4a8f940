"""What a model's own files ask for is the default, and said where it is not what is done."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from tasks.adapters.checkpoint.checkpoint import put_pin
from tasks.domain.digest import digest
from tasks.domain.encoder_identity import EncoderFacts, EncoderRecord
from tasks.domain.job.parse import parse_job
from tasks.run.model_notes import metric_of, model_notes
from tasks.run.preflight import Inspected, inspect_job
from tests.builders.inprocess import RunFlow
from tests.builders.kitestring import Kitestring, make_job, text_of, write_rows


def with_config(model: Path, folder: Path, **config: Any) -> Path:
    shutil.copytree(model, folder / "model")
    (folder / "model" / "config_sentence_transformers.json").write_text(json.dumps(config))
    return folder / "model"


def inspected(folder: Path, model: Path, **settings: Any) -> Inspected:
    write_rows(folder / "rows" / "0.parquet", 0, 3)
    return inspect_job(parse_job(make_job(folder, model, **settings)))


@pytest.mark.parametrize(
    ("told", "metric"), [("dot", "IP"), ("euclidean", "L2"), ("cosine", "COSINE"), ("manhattan", "COSINE"), (None, "COSINE")]
)
def test_the_metric_is_what_the_model_is_made_for(tiny_model: Path, tmp_path: Path, told: str | None, metric: str) -> None:
    model = with_config(tiny_model, tmp_path, similarity_fn_name=told)
    assert metric_of(inspected(tmp_path, model)) == metric
    assert metric_of(inspected(tmp_path, model, target__metric="L2")) == "L2"
    assert metric_of(inspected(tmp_path, model, target__vector_type="int8")) == "COSINE"


def test_what_does_not_fit_the_models_similarity_is_said(tiny_model: Path, tmp_path: Path) -> None:
    found = inspected(tmp_path, with_config(tiny_model, tmp_path, similarity_fn_name="dot"), target__metric="COSINE")
    other, scaled = model_notes(found, "COSINE")
    assert other.startswith("the model is made for dot product, and the collection compares by COSINE")
    assert "encoder.normalize: false" in scaled
    assert not list(model_notes(inspected(tmp_path, tmp_path / "model", encoder__normalize=False), "IP"))
    (none,) = model_notes(inspected(tmp_path, with_config(tiny_model, tmp_path / "other", similarity_fn_name="manhattan")), "COSINE")
    assert none == "the model is made for a similarity that Milvus does not have (manhattan): the collection compares by COSINE"
    assert not list(model_notes(inspected(tmp_path, tiny_model), "COSINE"))


def test_rows_that_an_earlier_version_embedded_otherwise_are_told(tiny_model: Path, tmp_path: Path) -> None:
    model = with_config(tiny_model, tmp_path, prompts={"query": "the ", "document": "it was "}, default_prompt_name="query")
    found = inspected(tmp_path, model)
    assert not list(model_notes(found, "COSINE"))
    identity = found.identify("float32")
    earlier = identity.model_copy(update={"preprocessing": found.job.encoder.preprocessing})
    record = EncoderRecord(identity=earlier, facts=EncoderFacts(dim=32, max_seq_length=64, precision="float32", device="cpu"))
    put_pin(found.store, found.job.corpus, digest({"encoder": found.job.encoder.declared, "weights": found.model.weights}), record)
    (note,) = model_notes(found, "COSINE")
    assert "document prompt 'it was '" in note
    assert found.pinned() is None
    assert earlier.fingerprint != identity.fingerprint


@pytest.mark.server
def test_questions_are_asked_as_questions_by_the_models_own_measure(
    run_flow: RunFlow, kitestring: Kitestring, tiny_model: Path, tmp_path: Path
) -> None:
    prompts = {"query": "the one that is ", "document": "it was "}
    model = with_config(tiny_model, tmp_path, prompts=prompts, default_prompt_name="query", similarity_fn_name="dot")
    write_rows(tmp_path / "rows" / "0.parquet", 0, 20)
    job = make_job(tmp_path, model, encoder__normalize=False, compute__processes=1, target__collection="sides")
    assert run_flow(job)["verified"] is True
    path = kitestring.job(job)
    hits = kitestring.here("search", path, "they have this", "-k", "20", "--json").json
    library = SentenceTransformer(str(model), device="cpu")
    scores = library.encode_query(["they have this"]) @ library.encode_document([text_of(row) for row in range(20)]).T
    assert np.allclose([hit["score"] for hit in hits], np.sort(scores[0])[::-1], rtol=1e-4)
    told = kitestring.here("status", path).out
    assert "model:  rows: prompt 'it was ' (the model's 'document'); questions: prompt 'the one that is ' (the model's 'query')" in told
    other = kitestring.job({**job, "encoder": {**job["encoder"], "query_prompt": "you "}}, "other.yaml")  # no new encoder
    assert kitestring.here("search", other, "they have this", "--json").json[0]["score"] != hits[0]["score"]

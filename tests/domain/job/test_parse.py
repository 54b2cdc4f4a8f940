"""What a user reads when a job file is wrong."""

from __future__ import annotations

import pytest

from tasks.domain.errors import BadInput
from tasks.domain.job.job import Job
from tasks.domain.job.parse import override, override_document, parse_job


@pytest.mark.parametrize(
    ("document", "line"),
    [
        ({"corpse": "x"}, "'corpse' is not a setting; did you mean 'corpus'?"),
        ({"source": {"kind": "parquet", "uris": "x"}}, "'source.uris' is not a setting; did you mean 'uri'?"),
        (
            {"encoder": {"kind": "open-clip", "model": "x"}, "source": {"kind": "images"}},
            "'encoder.model' is not a setting; the settings are kind, architecture",
        ),
        (
            {"source": {"kind": "parket"}},
            "'source.kind' is 'parket', it must be one of 'images', 'text-files', 'webdataset', 'parquet', 'jsonl', 'csv'",
        ),
        ({"shards": {"rows": 0}}, "'shards.rows' must be at least 1, not 0"),
        ({"compute": {"processes": 0}}, "'compute.processes' must be 'auto' or at least 1, not 0"),
        ({"compute": {"threads": "many"}}, "'compute.threads' must be 'auto' or an integer, not 'many'"),
        ({"source": {"text": ["a", 1]}}, "'source.text.1' must be a text, not 1"),
        ({"target": {"collection": "my docs"}}, "'target.collection': 'my docs' is not a name of letters, digits and underscores"),
        ({"metrics": {"exporter": "statsd"}}, "'metrics.exporter' must be 'otlp' or 'prometheus', not 'statsd'"),
        ({"metrics": {"endpoint": "collector:4318"}}, "'metrics.endpoint': 'collector:4318' is not an address that begins with http://"),
        ({"metrics": {"port": 99_999}}, "'metrics.port' must be at most 65535, not 99999"),
        ({"metrics": True}, "'metrics' must be a mapping of settings or left out, not True"),
        ({"lineage": {"namespace": "a"}}, "'lineage.url' is required"),
        ({"cache": {"uri": "localhost"}}, "'cache.uri': 'localhost' is not an address such as redis://host:6379/0"),
        ({"cache": {"uri": "redis://h", "ttl_days": 0}}, "'cache.ttl_days' must be more than 0.0, not 0"),
        ({"cache": {"uri": "redis://h", "ttl_day": 1}}, "'cache.ttl_day' is not a setting; did you mean 'ttl_days'?"),
        ({"source": {"chunks": True}}, "'source.chunks' must be a mapping of settings or left out, not True"),
        ({"source": {"chunks": {"tokens": 0}}}, "'source.chunks.tokens' must be 'auto' or at least 1, not 0"),
        ({"source": {"chunks": {"split": "pages"}}}, "'source.chunks.split': 'pages' is not text, markdown or code:<language>"),
        ({"source": {"chunks": {"size": 3}}}, "'source.chunks.size' is not a setting; the settings are tokens, overlap, split"),
        ({"source": {"chunks": {"tokens": 9, "overlap": 9}}}, "'source.chunks': chunks: an overlap of 9 tokens leaves no room"),
        ({"target": {"gate": {"at_k": 3}}}, "'target.gate.queries' is required"),
        ({"target": {"full_text": {"analyser": {}}}}, "'target.full_text.analyser' is not a setting; did you mean 'analyzer'?"),
        ({"target": {"tls": "ca.pem"}}, "'target.tls' must be a mapping of settings or left out, not 'ca.pem'"),
        ({"target": {"full_text": "yes"}}, "'target.full_text' must be 'off' or 'on' or a mapping of settings, not 'yes'"),
        ({"source": {"kind": "images"}}, "use encoder kind 'open-clip'"),
        ({"source": {"kind": "csv", "text": ["a"], "image": "b"}}, "'source': give text columns or an image column, not both"),
        (["corpus"], "a job is a mapping"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(document: object, line: str) -> None:
    with pytest.raises(BadInput) as caught:
        parse_job(document)
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


def test_who_gives_settings_is_not_told_to_leave_them_out() -> None:
    for wrong in ({"chunks": {"tokens": 9, "overlap": 9}}, {"chunks": {"size": 3}}, {"chunks": {"tokens": 0}}):
        with pytest.raises(BadInput) as caught:
            parse_job({"source": wrong})
        assert "left out" not in str(caught.value)
        assert ";" not in str(caught.value).removesuffix("; the settings are tokens, overlap, split")


def test_the_defaults_are_a_job() -> None:
    assert parse_job({}) == Job()


def test_one_text_column_may_stand_without_brackets() -> None:
    assert parse_job({"source": {"text": "body"}}).source.content == ["body"]  # type: ignore[union-attr]


def test_an_override_leaves_its_neighbours_alone() -> None:
    job = parse_job({"target": {"uri": "./a.db", "collection": "a"}, "shards": {"rows": 7}})
    changed = override(job, {"target.collection": "b"})
    assert changed.target.uri == "./a.db"
    assert changed.target.collection == "b"
    assert changed.shards.rows == 7


def test_an_override_of_a_kind_drops_the_settings_of_the_other_kind() -> None:
    job = parse_job({"source": {"kind": "csv", "delimiter": ";"}})
    assert override(job, {"source.kind": "jsonl"}).source.kind == "jsonl"


def test_an_override_below_a_single_value_is_refused() -> None:
    with pytest.raises(BadInput, match="'corpus' is a single value"):
        override_document({"corpus": "x"}, {"corpus.name": "y"})


def test_an_override_of_an_unknown_setting_names_the_nearest() -> None:
    with pytest.raises(BadInput, match="did you mean 'rows'"):
        override(Job(), {"shards.row": 5})


def test_a_database_in_the_address_is_refused_with_the_setting_that_it_belongs_to() -> None:
    """The client would make the collection in one database and send the rows to another."""
    job = {"corpus": "a", "source": {"uri": "x"}, "target": {"uri": "http://milvus:19530/mydb"}}
    with pytest.raises(BadInput, match=r"'target': uri ends in '/mydb': remove that, and set database: mydb"):
        parse_job(job)
    assert parse_job({**job, "target": {"uri": "http://milvus:19530/"}}).target.address == "http://milvus:19530/"

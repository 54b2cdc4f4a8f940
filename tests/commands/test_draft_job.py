"""A first job for data of many shapes: the key, the content and the metadata that a person would choose."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from tasks.commands.draft_job import Draft, corpus_name, draft_job
from tasks.commands.job_text import SEVERAL_LANGUAGES, job_text
from tasks.commands.look_at_data import look_at_data
from tasks.domain.errors import BadInput
from tasks.domain.job.parse import parse_job

PROSE = "A delta kite has swept wings and flies in the lightest wind, number"
PNG = b"\x89PNG\r\n\x1a\n" + bytes(20)


def drafted(place: Path | str) -> Draft:
    """The draft for a place, whose text is a job that says the same."""
    look = look_at_data(str(place))
    draft = draft_job(look)
    document = yaml.safe_load(job_text(draft, schema="job.schema.json", sampled=look.rows))
    assert document.pop("$schema") == "job.schema.json"
    job = parse_job(document)
    assert (job.corpus, job.source.kind, job.source.uri) == (draft.corpus, draft.kind, draft.uri)
    if draft.text or draft.image:
        assert (job.source.named.key, tuple(job.source.named.content)) == (draft.key, draft.text or (draft.image,))
        assert tuple(job.source.scalars) == draft.metadata
    return draft


def table(folder: Path, **columns: list[Any]) -> Path:
    path = folder / "articles.parquet"
    pq.write_table(pa.table(columns), path)
    return path


def test_prose_with_its_title_is_embedded_and_the_rest_is_metadata(tmp_path: Path) -> None:
    path = table(
        tmp_path,
        url=[f"https://host/{n}" for n in range(50)],
        n=[n % 3 for n in range(50)],
        title=[f"Kites {n}" for n in range(50)],
        body=[f"{PROSE} {n}" for n in range(50)],
        article_id=[7 * n for n in range(50)],
        tags=[["a", "b"]] * 50,
        raw=[b"\x00\x01"] * 50,
        nothing=pa.nulls(50),
    )
    draft = drafted(path)
    assert (draft.kind, draft.corpus, draft.key, draft.text) == ("parquet", "articles", "url", ("title", "body"))
    assert draft.metadata == ("n", "article_id")
    assert draft.left == {"tags": "a list", "raw": "bytes", "nothing": "empty"}


@pytest.mark.parametrize(
    ("columns", "key"),
    [
        ({"other_id": [1, 2], "id": [3, 4]}, "id"),
        ({"id": [1, 1], "doc_id": ["a", "b"]}, "doc_id"),
        ({"id": [1, None], "n": [3, 4]}, None),
        ({"fluid": [1, 2]}, None),
        ({"sku": ["a", "b"], "zip": ["1", "2"]}, "sku"),
        ({"sku": ["a", "b"], "product_id": [1, 2]}, "product_id"),
        ({"Ticket": ["T-1", "T-2"]}, "Ticket"),
        ({"articleId": [1, 2]}, "articleId"),
        ({"id": [1.5, 2.5]}, None),
    ],
)
def test_the_key_has_a_keys_name_and_a_value_of_its_own_in_every_row(tmp_path: Path, columns: dict[str, Any], key: str | None) -> None:
    assert drafted(table(tmp_path, text=[f"{PROSE} 1", f"{PROSE} 2"], **columns)).key == key


def test_prices_are_said_to_be_texts_with_the_setting_that_makes_them_numbers(tmp_path: Path) -> None:
    (tmp_path / "shop.csv").write_text("sku,description,price,version\n" + "".join(f'{n},"{PROSE} {n}",{n}.50,3.{n}\n' for n in range(20)))
    draft = drafted(tmp_path / "shop.csv")
    assert (draft.metadata, draft.decimals) == (("price", "version"), ("price",))
    assert "\n  # types: {price: double}  # kept as texts (3.50)" in job_text(draft, schema=None, sampled=20)


def test_pictures_as_bytes_and_by_name_are_embedded_unless_there_is_prose_beside_names(tmp_path: Path) -> None:
    assert drafted(table(tmp_path, id=[1, 2], picture=[PNG, PNG])).image == "picture"
    assert drafted(table(tmp_path, id=[1, 2], file=["a.jpg", "b/c.PNG"])).image == "file"
    told = drafted(table(tmp_path, id=[1, 2], file=["a.jpg", "b.png"], caption=[f"{PROSE} 1", f"{PROSE} 2"]))
    assert (told.image, told.text, told.metadata) == (None, ("caption",), ("file",))
    both = drafted(table(tmp_path, id=[1, 2], caption=[f"{PROSE} 1", f"{PROSE} 2"], picture=[PNG, PNG]))
    assert (both.image, both.metadata) == ("picture", ("caption",))


def test_texts_of_other_scripts_get_a_model_that_reads_them(tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text("编号,正文\n1,三角风筝有后掠的翅膀没有尾巴\n2,没有风的时候风筝飞不起来\n", encoding="utf-8")
    draft = drafted(tmp_path / "data.csv")
    assert (draft.text, draft.metadata, draft.several_languages) == (("正文",), ("编号",), True)
    assert f"model: {SEVERAL_LANGUAGES}" in job_text(draft, schema=None, sampled=2)


def test_the_most_files_decide_and_the_others_are_counted(tmp_path: Path) -> None:
    for n in range(3):
        (tmp_path / f"{n}.jsonl").write_text(json.dumps({"key": n, "text": f"{PROSE} {n}"}) + "\n")
    with (tmp_path / "extra.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["a"], ["b"]])
    look = look_at_data(str(tmp_path))
    assert (look.kind, look.files, look.others, look.rows) == ("jsonl", 3, {"csv": 1}, 3)
    assert drafted(tmp_path).key == "key"


def test_pictures_and_tars_need_no_columns(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"\xff\xd8\xff")
    assert drafted(tmp_path).kind == "images"
    (tmp_path / "a.jpg").unlink()
    (tmp_path / "0.tar").write_bytes(bytes(1024))
    assert drafted(tmp_path).kind == "webdataset"


def test_texts_need_no_columns_and_are_split_as_what_they_are(tmp_path: Path) -> None:
    for name in ("a.md", "b/c.markdown", "README.md", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"# {PROSE}", encoding="utf-8")
    look = look_at_data(str(tmp_path))
    assert (look.kind, look.files, look.columns, drafted(tmp_path).split) == ("text-files", 4, (), "markdown")
    assert "\n  chunks: {tokens: auto, split: markdown}  # a file" in job_text(drafted(tmp_path), schema=None, sampled=0)
    (tmp_path / "notes.txt").write_text("三角风筝有后掠的翅膀没有尾巴", encoding="utf-8")
    draft = drafted(tmp_path / "notes.txt")
    assert (draft.corpus, draft.split, draft.several_languages) == ("notes", "text", True)


def test_a_text_beside_a_table_is_about_it(tmp_path: Path) -> None:
    for name in ("README.md", "LICENSE.txt", "CHANGELOG.md"):
        (tmp_path / name).write_text(PROSE)
    (tmp_path / "rows.csv").write_text(f'id,text\n1,"{PROSE}"\n')
    assert drafted(tmp_path).kind == "csv"
    (tmp_path / "a.md").write_text(PROSE)
    assert drafted(tmp_path).kind == "csv"
    (tmp_path / "b.md").write_text(PROSE)
    assert drafted(tmp_path).kind == "text-files"


def test_a_lakehouse_table_is_read_as_one(tmp_path: Path) -> None:
    import deltalake  # noqa: PLC0415 - a second to import

    deltalake.write_deltalake(str(tmp_path / "t"), pa.table({"id": [1, 2], "text": [f"{PROSE} 1", f"{PROSE} 2"]}))
    draft = drafted(tmp_path / "t")
    assert (draft.kind, draft.key, draft.text) == ("delta", "id", ("text",))
    with pytest.raises(BadInput, match=r"'t' is a Delta table"):
        look_at_data(str(tmp_path))


@pytest.mark.parametrize(
    ("files", "why"),
    [
        ({}, "no file matches"),
        ({"a.xyz": "x"}, ".tgz, .tbz2, .txz, .jpg,"),
        ({"book.pdf": "%PDF"}, "'book.pdf'). PDF, HTML and other documents become rows first, such as JSON Lines of {id, text}"),
        ({"a.jsonl": '{"n": 1}\n'}, "no column of texts or pictures (n)"),
    ],
)
def test_where_there_is_nothing_to_embed_it_is_said(tmp_path: Path, files: dict[str, str], why: str) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(BadInput) as error:
        draft_job(look_at_data(str(tmp_path)))
    assert why in str(error.value)


@pytest.mark.parametrize(
    ("uri", "name"),
    [
        ("s3://lake/wiki/data/*.parquet", "wiki"),
        ("docs.jsonl.gz", "docs"),
        ("./data", "data"),
        ("/", "corpus"),
        ("News 2026/part-{000..099}.csv", "news_2026"),
    ],
)
def test_a_corpus_is_named_after_the_place(uri: str, name: str) -> None:
    assert corpus_name(uri) == name

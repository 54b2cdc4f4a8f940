"""The demo's corpus: enough to search, the same every time, and nothing written twice."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from tasks.adapters.sources.stdlib_docs import QUESTIONS, Passage, _publish, passages, write_corpus
from tasks.domain.errors import BadInput


@pytest.fixture(scope="module")
def library() -> dict[str, Passage]:
    return {passage.id: passage for passage in passages()}


@pytest.fixture(scope="module")
def corpora(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("corpora")
    return {size: write_corpus(folder, size) for size in ("quick", "default", "full")}


def test_the_library_has_at_least_four_thousand_passages_of_every_kind(library):
    kinds = Counter(passage.kind for passage in library.values())
    assert sum(kinds.values()) >= 4000
    assert min(kinds[kind] for kind in ("module", "class", "function", "method")) > 200


def test_each_id_comes_once_and_the_order_never_changes(library):
    assert [passage.id for passage in passages()] == list(library)


@pytest.mark.parametrize(
    ("name", "module", "kind", "says"),
    [
        ("datetime.datetime.strptime", "datetime", "method", "parsed from a string"),
        ("subprocess.run", "subprocess", "function", "Run command with arguments"),
        ("collections.Counter", "collections", "class", "counting hashable items"),
        ("os.path.join", "os.path", "function", "Join two or more pathname components"),
        ("json", "json", "module", "JSON"),
        ("asyncio.gather", "asyncio", "function", "coroutines"),
        ("time.strptime", "time", "function", "Parse a string"),  # in C, as are those below
        ("str.split", "builtins", "method", "separator"),
        ("open", "builtins", "function", "stream"),
        ("math.sqrt", "math", "function", "square root"),
        ("collections.deque.append", "collections", "method", "right side"),
    ],
)
def test_what_users_ask_for_is_there_under_the_name_they_import(library, name, module, kind, says):
    passage = library[name]
    assert (passage.module, passage.kind) == (module, kind)
    assert passage.text.startswith(name)
    assert says in passage.text


def test_private_names_tests_and_other_packages_are_left_out(library):
    assert not [name for name in library if any(part.startswith("_") for part in name.split(".")) and name != "__future__"]
    assert not {passage.module.split(".")[0] for passage in library.values()} & {"test", "idlelib", "lib2to3", "pytest", "site-packages"}


def test_no_passage_tells_an_address_in_memory(library):
    assert not [name for name, passage in library.items() if " at 0x" in passage.text]


def test_signatures_are_written_as_one_calls_them(library):
    assert library["datetime.datetime.strptime"].text.splitlines()[0] == "datetime.datetime.strptime(date_string, format)"
    assert library["str.split"].text.splitlines()[0] == "str.split(sep=None, maxsplit=-1)"


@pytest.mark.parametrize(("size", "least", "most"), [("quick", 400, 600), ("default", 4000, 5200), ("full", 6000, 9000)])
def test_sizes_are_what_they_say_and_hold_the_questions_answers(corpora, size, least, most):
    table = ds.dataset(corpora[size]).to_table()
    assert table.column_names == ["id", "text", "module", "kind"]
    ids = table["id"].to_pylist()
    assert least <= len(ids) == len(set(ids)) <= most
    assert {"datetime.datetime.strptime", "subprocess.run", "collections.Counter", "pathlib.Path.glob"} <= set(ids)


def test_the_corpus_is_several_files_with_row_groups_to_shard_by(corpora):
    files = sorted(corpora["default"].glob("*.parquet"))
    assert len(files) >= 5
    assert sum(pq.ParquetFile(file).num_row_groups for file in files) > 2 * len(files)


def test_a_second_call_touches_nothing(corpora):
    folder = corpora["quick"].parent

    def seen() -> dict[Path, tuple[int, int]]:
        return {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in [folder, *folder.rglob("*")]}

    before = seen()
    assert write_corpus(folder, "quick") == corpora["quick"]
    assert seen() == before


def test_sizes_stand_side_by_side_and_no_scratch_is_left(corpora):
    assert set(corpora["quick"].parent.iterdir()) == set(corpora.values())


def test_of_two_writers_at_once_the_first_ones_files_stay(tmp_path):
    written, there = tmp_path / "written", tmp_path / "there"
    for folder in (written, there):
        folder.mkdir()
        (folder / "a-b.parquet").write_text(folder.name)
    _publish(written, there)
    assert (there / "a-b.parquet").read_text() == "there"


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(BadInput, match="taken"):
        write_corpus(tmp_path / "taken", "quick")


@pytest.mark.parametrize(
    ("question", "answer"), list(zip(QUESTIONS, ["datetime.datetime.strptime", "subprocess.run", "pathlib.Path.glob"], strict=True))
)
def test_the_demos_questions_find_their_answer_in_the_first_five(found, question, answer):
    assert answer in found[question]


@pytest.fixture(scope="module")
def found(corpora, minilm_path) -> dict[str, list[str]]:
    """Each question's first five among the quick passages, by the model that the demo uses."""
    from sentence_transformers import SentenceTransformer  # noqa: PLC0415 - seconds that the other tests need not wait

    model = SentenceTransformer(str(minilm_path), device="cpu")
    table = ds.dataset(corpora["quick"]).to_table()
    vectors = model.encode(table["text"].to_pylist(), normalize_embeddings=True)
    nearest = (model.encode(list(QUESTIONS), normalize_embeddings=True) @ vectors.T).argsort(axis=1)[:, ::-1][:, :5]
    ids = table["id"].to_pylist()
    return {question: [ids[place] for place in places] for question, places in zip(QUESTIONS, nearest, strict=True)}

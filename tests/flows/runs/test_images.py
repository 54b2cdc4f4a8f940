"""Pictures become vectors, and are found with words; words with pictures."""

from __future__ import annotations

import html
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.builders.inprocess import RunFlow
from tests.builders.kitestring import Kitestring, image_job, make_job
from tests.builders.models import Clip
from tests.builders.worker.pictures import every_kind, saved, scene

pytestmark = [pytest.mark.server, pytest.mark.timeout(600), pytest.mark.usefixtures("no_process_left")]
SUFFIX = {"jpeg": "jpg", "png": "png", "webp": "webp", "gif": "gif", "tiff": "tif", "bmp": "bmp"}


def vectors_in(checkpoint: Path) -> dict[str, np.ndarray]:
    parts = [pq.read_table(path) for path in checkpoint.rglob("part-*.parquet")]
    return {row["id"]: np.array(row["vector"]) for part in parts for row in part.select(["id", "vector"]).to_pylist()}


def test_a_folder_of_every_format_is_embedded_and_searched_with_words(kitestring: Kitestring, tmp_path: Path, tiny_clip: Clip) -> None:
    pictures = {f"{name.replace(' ', '-')}.{SUFFIX[name.split()[0]]}": data for name, data in every_kind().items()}
    for name, data in pictures.items():
        path = tmp_path / "pictures" / name.split("-")[0] / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    (tmp_path / "pictures" / "readme.txt").write_text("not a picture")
    job = kitestring.job(image_job(tmp_path, tiny_clip, {"kind": "images", "uri": str(tmp_path / "pictures")}))

    run = kitestring("run", job, "--json")
    assert run.code == 0, run.err
    assert run.json["rows"] == {"source": 60, "embedded": 60, "reused": 0, "duplicates": 0, "quarantined": 0, "loaded": 60, "removed": 0}
    unread = [{"reason": "with the suffix .txt", "files": 1, "example": "readme.txt"}]
    words = "1 file in the source is not read: 1 with the suffix .txt ('readme.txt')"
    assert (run.json["unread"], run.json["notes"][0]) == (unread, words)
    assert words in kitestring.here("plan", job).out
    keys = {f"{name.split('-')[0]}/{name}" for name in pictures}
    (report,) = (tmp_path / "checkpoint").rglob("report.html")
    assert report.read_text().count('<img src="data:image/jpeg;base64,') == 3 * 5  # of three pictures and four like each

    asked = {words: kitestring.here("search", job, words, "-k", "60", "--json") for words in ("a red cat", "the sea at night")}
    for words, answer in asked.items():
        assert answer.code == 0, answer.err
        assert {hit["id"] for hit in answer.json} == keys
        expected = _scores(tiny_clip, words, vectors_in(tmp_path / "checkpoint"))
        assert {hit["id"]: hit["score"] for hit in answer.json} == pytest.approx(expected, abs=1e-4)
        scores = [hit["score"] for hit in answer.json]
        assert scores == sorted(scores, reverse=True)
    code = kitestring.here("status", job, "--json").json["code"]
    assert code.strip() in html.unescape(report.read_text())
    application: dict[str, Any] = {}
    exec(code, application)
    found = application["search"]("a red cat", k=60)
    assert {hit["id"]: hit["distance"] for hit in found} == pytest.approx({h["id"]: h["score"] for h in asked["a red cat"].json}, abs=1e-3)
    shown = kitestring.here("search", job, "a red cat", "-k", "3")
    assert len([line for line in shown.out.splitlines() if any(key in line for key in keys)]) == 3

    assert kitestring.here("search", job, "a red <cat>", "-k", "60", "--html", tmp_path / "hits.html").code == 0
    page = (tmp_path / "hits.html").read_text()
    assert page.count('<img src="data:image/jpeg;base64,') == 60
    assert all(f'alt="{key}"' in page for key in keys)
    assert "a red &lt;cat&gt;" in page
    assert "http" not in page.replace("http-equiv", "")  # nothing is fetched


def test_pictures_find_pictures_and_texts_and_what_is_no_picture_is_one_line(
    kitestring: Kitestring, run_flow: RunFlow, tmp_path: Path, tiny_clip: Clip
) -> None:
    """One model, two corpora: what is searched with a picture may be pictures or words."""
    (tmp_path / "pictures").mkdir()
    for number in range(6):
        (tmp_path / "pictures" / f"{number}.jpg").write_bytes(saved(scene(number), "JPEG", quality=95))
    captions = [f"a scene with the number {number}" for number in range(8)]
    pq.write_table(pa.table({"id": [f"c{n}" for n in range(8)], "say": captions}), tmp_path / "captions.parquet")
    document = image_job(tmp_path, tiny_clip, {"kind": "images", "uri": str(tmp_path / "pictures")})
    assert run_flow(document)["rows"]["loaded"] == 6
    pictures = kitestring.job(document, "pictures.yaml")
    source = {"kind": "parquet", "uri": str(tmp_path / "captions.parquet"), "id": "id", "text": ["say"]}
    into = {"corpus": "captions", "target__uri": str(tmp_path / "captions.db")}
    words = kitestring.job(image_job(tmp_path, tiny_clip, source, compute__processes=1, **into), "words.yaml")
    run = kitestring("run", words, "--json")
    assert run.code == 0, run.err
    assert (run.json["rows"]["loaded"], run.json["verified"]) == (8, True)

    query = tmp_path / "pictures" / "3.jpg"
    found = kitestring.here("search", pictures, "--image", query, "-k", "6", "--json", "--html", tmp_path / "found.html")
    assert found.code == 0, found.err
    nearest = found.json[0]
    assert (nearest["id"], nearest["score"]) == ("3.jpg", pytest.approx(1, abs=1e-4))
    page = (tmp_path / "found.html").read_text()
    assert page.count('<img src="data:image/jpeg;base64,') == 6
    assert '<img class="asked" src="data:image/jpeg;base64,' in page
    (tmp_path / "pictures" / "5.jpg").write_bytes(saved(scene(5), "JPEG", quality=80))  # another version of the shard, not loaded yet
    kitestring.here("search", pictures, "--image", query, "-k", "6", "--html", tmp_path / "found.html")
    assert (tmp_path / "found.html").read_text().count('<img src="data:image/jpeg;base64,') == 6

    answer = kitestring.here("search", words, "--image", query, "-k", "8", "--json", "--html", tmp_path / "words.html")
    assert answer.code == 0, answer.err
    vectors = vectors_in(tmp_path / "checkpoint")
    expected = {f"c{n}": float(vectors[f"c{n}"] @ vectors["3.jpg"]) for n in range(8)}
    assert {hit["id"]: hit["score"] for hit in answer.json} == pytest.approx(expected, abs=1e-4)
    assert {hit["id"]: hit["text"] for hit in answer.json} == {f"c{n}": text for n, text in enumerate(captions)}

    (tmp_path / "cut.jpg").write_bytes(query.read_bytes()[:700])
    (tmp_path / "bomb.png").write_bytes(saved(Image.new("1", (30_000, 30_000)), "PNG"))
    for arguments, told in {
        ("--image", tmp_path / "none.jpg"): "missing image",
        ("--image", tmp_path / "cut.jpg"): "undecodable image",
        ("--image", tmp_path / "bomb.png"): "image bomb: 30000x30000 pixels",
        ("--image", query, "a red cat"): "give either a text to search for",
        (): "give either a text to search for",
    }.items():
        refused = kitestring.here("search", words, *arguments)
        assert (refused.code, refused.out) == (2, ""), arguments
        assert told in refused.err
        assert len(refused.err.splitlines()) == 1


def test_a_job_whose_encoder_knows_words_alone_is_not_searched_with_a_picture(
    kitestring: Kitestring, tmp_path: Path, tiny_model: Path
) -> None:
    refused = kitestring.here("search", kitestring.job(make_job(tmp_path, tiny_model)), "--image", "cat.jpg")
    assert refused.code == 2
    assert "'sentence-transformers' embeds text only" in refused.err


def _scores(clip: Clip, words: str, vectors: dict[str, np.ndarray]) -> dict[str, float]:
    """What open_clip itself says of some words and each picture."""
    import open_clip  # noqa: PLC0415 - takes seconds
    import torch  # noqa: PLC0415

    model, _ = open_clip.create_model_from_pretrained(clip.architecture)
    with torch.inference_mode():
        query = model.eval().encode_text(open_clip.get_tokenizer(clip.architecture)([words]), normalize=True)[0].numpy()
    return {key: float(vector @ query) for key, vector in vectors.items()}


def write_tar(path: Path, count: int) -> None:
    with tarfile.open(path, "w") as tar:
        for number in range(count):
            caption, facts = f"caption {number}".encode(), json.dumps({"width": 100 + number, "licence": "cc0"}).encode()
            for suffix, data in (("jpg", saved(scene(number), "JPEG")), ("txt", caption), ("json", facts)):
                member = tarfile.TarInfo(f"{number:03}.{suffix}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))


def test_tars_and_bytes_in_parquet_give_what_the_files_would(
    kitestring: Kitestring, run_flow: RunFlow, tmp_path: Path, tiny_clip: Clip
) -> None:
    (tmp_path / "tars").mkdir()
    write_tar(tmp_path / "tars" / "a.tar", 6)
    source = {"kind": "webdataset", "uri": str(tmp_path / "tars"), "metadata": ["txt", "width", "licence"]}
    document = image_job(tmp_path, tiny_clip, source)
    assert run_flow(document)["rows"]["loaded"] == 6
    answer = kitestring.here("search", kitestring.job(document), "a red cat", "-k", "9", "--filter", "width >= 103", "--json")
    assert answer.code == 0, answer.err
    assert {hit["id"]: (hit["txt"], hit["width"], hit["licence"]) for hit in answer.json} == {
        f"{number:03}": (f"caption {number}", 100 + number, "cc0") for number in (3, 4, 5)
    }
    from_tar = vectors_in(tmp_path / "checkpoint")

    names, data = [f"{n:03}" for n in range(6)], [saved(scene(n), "JPEG") for n in range(6)]
    pq.write_table(pa.table({"name": names, "jpg": pa.array(data, pa.binary())}), tmp_path / "bytes.parquet")
    source = {"kind": "parquet", "uri": str(tmp_path / "bytes.parquet"), "id": "name", "image": "jpg"}
    run_flow(image_job(tmp_path, tiny_clip, source, target__collection="bytes", checkpoint=str(tmp_path / "other")))
    from_bytes = vectors_in(tmp_path / "other")
    assert set(from_bytes) == set(from_tar)
    for key, vector in from_bytes.items():
        assert vector @ from_tar[key] == pytest.approx(1, abs=1e-5)

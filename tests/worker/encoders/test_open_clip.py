"""The image encoder against open_clip's own transform, `encode_image` and `encode_text`."""

from __future__ import annotations

import io
import logging
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import open_clip
import psutil
import pyarrow as pa
import pytest
import torch
from PIL import Image

from tasks.adapters.files.pictures import FORMATS
from tasks.domain.encoder_identity import Precision
from tasks.domain.errors import BadInput
from tasks.domain.job.encoder import OpenClipEncoder
from tasks.domain.job.job import Compute
from tasks.worker.base import LoadedEncoder, Vectors
from tasks.worker.encoders import image_decoder
from tasks.worker.encoders.image_decoder import Decoder
from tasks.worker.encoders.registry import open_encoder
from tasks.worker.encoding_errors import Fatal
from tests.builders.models import Clip
from tests.builders.worker.pictures import every_kind, photograph, saved, scene


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def opened(clip: Clip, compute: Compute | None = None, **settings: object) -> LoadedEncoder:
    encoder = OpenClipEncoder.model_validate({"architecture": clip.architecture, "pretrained": clip.pretrained, **settings})
    return open_encoder(encoder, model_path=clip.pretrained, precision="float32", compute=compute)


@pytest.fixture(scope="module")
def encoder(tiny_clip: Clip) -> LoadedEncoder:
    return opened(tiny_clip)


def rows_of(pictures: list[bytes | None], uris: list[str | None] | None = None) -> pa.Table:
    places = uris or [None] * len(pictures)
    return pa.table({"image": pa.array(pictures, pa.large_binary()), "image_uri": pa.array(places, pa.string())})


def embed(encoder: LoadedEncoder, rows: pa.Table, *, alone: bool = False) -> tuple[Vectors, dict[int, str]]:
    """The vector of each picture, and why it has none."""
    work = encoder.prepare(rows)
    vectors, refused = np.zeros((rows.num_rows, encoder.facts().dim), dtype=np.float32), {}
    for batch in work.load(work.plan(range(rows.num_rows)), alone=alone):
        refused.update(batch.refused)
        if batch.contents:
            vectors[batch.rows] = encoder.encode(batch.contents)
    return vectors, refused


def refusal(encoder: LoadedEncoder, data: bytes | None, uri: str | None = None) -> str:
    return embed(encoder, rows_of([data], [uri]))[1][0]


def stock(clip: Clip, pictures: list[bytes]) -> Vectors:
    logging.disable(logging.WARNING)
    model, _, transform = open_clip.create_model_and_transforms(clip.architecture, pretrained=clip.pretrained or None)
    logging.disable(logging.NOTSET)
    images = torch.stack([transform(Image.open(io.BytesIO(picture))) for picture in pictures])
    with torch.inference_mode():
        return np.asarray(model.eval().encode_image(images, normalize=True).numpy())


def lowest_cosine(a: Vectors, b: Vectors) -> float:
    return float(((a * b).sum(axis=1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))).min())


def eight_bit(pictures: dict[str, bytes]) -> list[bytes]:
    """The same pictures, those of 16 bits as the 8-bit ones that they were made from."""
    return [pictures[name.replace("16 bit", "grey")] for name in pictures]


def test_pictures_of_every_format_and_mode_are_embedded_as_open_clip_would(named_clip: Clip) -> None:
    """An architecture that open_clip knows by name, and a checkpoint by its path."""
    pictures = every_kind()
    assert len(pictures) == 60
    vectors, refused = embed(opened(named_clip), rows_of(list(pictures.values())))
    assert not refused
    assert lowest_cosine(vectors, stock(named_clip, eight_bit(pictures))) >= 0.9999


def test_a_model_in_a_folder_of_its_own_works_alike(encoder: LoadedEncoder, tiny_clip: Clip) -> None:
    pictures = every_kind()
    assert lowest_cosine(embed(encoder, rows_of(list(pictures.values())))[0], stock(tiny_clip, eight_bit(pictures))) >= 0.9999
    assert encoder.facts().dim == 32


def deep_kinds() -> dict[str, bytes]:
    """Grey pictures of more than 8 bits, in each form in which PIL opens them; all show scene 1."""
    grey = np.asarray(scene(1).convert("L"), dtype=np.uint16)
    deep = Image.fromarray(grey * 257)
    return {
        "png": saved(deep, "PNG"),
        "tiff": saved(deep, "TIFF"),
        "tiff, high byte first": saved(Image.frombytes("I;16B", deep.size, (grey * 257).astype(">u2").tobytes()), "TIFF"),
        "pgm": b"P5 %d %d 65535\n" % deep.size + (grey * 257).astype(">u2").tobytes(),
        "jp2": saved(deep, "JPEG2000"),
    }


def test_pixels_of_16_bits_are_scaled_by_their_range_and_none_without_a_range_is_embedded(encoder: LoadedEncoder) -> None:
    grey = saved(scene(1).convert("L"), "PNG")
    kinds = deep_kinds()
    vectors, refused = embed(encoder, rows_of([grey, *kinds.values()]))
    assert not refused
    assert lowest_cosine(vectors[1:], vectors[[0] * len(kinds)]) > 0.9999
    for mode, what in {"F": "floating-point numbers", "I": "integers of 32 bits"}.items():
        reason = refusal(encoder, saved(scene(1).convert(mode), "TIFF"))
        assert reason == f"pixels without a range: its pixels are {what}, whose range is unknown: save it with 8 or 16 bits"


def test_pictures_of_telephones_and_archives_are_embedded(encoder: LoadedEncoder) -> None:
    pictures = [saved(scene(1), kind, quality=95) for kind in ("JPEG", "HEIF", "AVIF")] + [saved(scene(1), "JPEG2000")]
    vectors, refused = embed(encoder, rows_of(pictures))
    assert not refused
    assert lowest_cosine(vectors[1:], vectors[[0] * 3]) > 0.999


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_stays_near_float32(encoder: LoadedEncoder, tiny_clip: Clip, precision: Precision) -> None:
    rows = rows_of([saved(scene(seed), "JPEG") for seed in range(8)])
    half = open_encoder(OpenClipEncoder(architecture=tiny_clip.architecture), model_path="", precision=precision)
    assert 0.999 < lowest_cosine(embed(half, rows)[0], embed(encoder, rows)[0]) < 1


def test_pictures_are_read_from_where_they_are(encoder: LoadedEncoder, tmp_path: Path) -> None:
    data = saved(scene(1), "PNG")
    path = tmp_path / "a picture.png"
    path.write_bytes(data)
    vectors, refused = embed(encoder, rows_of([data, None, None], [None, str(path), path.as_uri()]))
    assert not refused
    assert lowest_cosine(vectors[1:], vectors[[0, 0]]) > 0.999999


def test_a_bad_picture_costs_only_itself(encoder: LoadedEncoder) -> None:
    good = saved(scene(1), "JPEG")
    vectors, refused = embed(encoder, rows_of([good, good[: len(good) // 2], b"", good]))
    assert sorted(refused) == [1, 2]
    assert np.linalg.norm(vectors[[0, 3]], axis=1) == pytest.approx(1)


def test_reasons_say_what_is_wrong(encoder: LoadedEncoder, tmp_path: Path) -> None:
    postscript = saved(scene(1), "EPS")
    assert refusal(encoder, saved(scene(1), "PNG")[:-4000]).startswith("undecodable image: ")
    assert refusal(encoder, b"no picture").startswith("undecodable image: ")
    found = {b"": "empty", b"<!DOCTYPE html><p>404": "HTML", b"<?xml version='1.0'?>\n<svg/>": "SVG", b"%PDF-1.7": "PDF"}
    for data, what in found.items():  # such reasons are counted by kind: they are stable, and say what was found
        assert what in refusal(encoder, data)
        assert refusal(encoder, data) == refusal(encoder, data)
        assert "0x" not in refusal(encoder, data)
    assert refusal(encoder, postscript).startswith("undecodable image: ")  # opening it would start Ghostscript
    assert refusal(encoder, None, str(tmp_path / "gone.png")) == f"missing image: {tmp_path / 'gone.png'}"
    assert refusal(encoder, None, str(tmp_path)).startswith("unreadable image: ")


def test_a_telephones_picture_without_its_decoder_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_decoder, "FORMATS", tuple(name for name in FORMATS if name != "HEIF"))
    decode = Decoder(transform=lambda _: torch.zeros(1), max_pixels=10**6)
    words = "undecodable image: HEIC needs the extra 'heif': install kitestring[heif], or convert it to JPEG"
    assert decode((saved(scene(1), "HEIF"), None)) == words


def test_a_bomb_is_refused_by_its_header(tiny_clip: Clip) -> None:
    """30,000 x 30,000 pixels in some kilobytes: never unpacked."""
    bomb = saved(Image.new("1", (30_000, 30_000)), "PNG")
    before = psutil.Process().memory_info().rss
    assert refusal(opened(tiny_clip), bomb).startswith("image bomb: 30000x30000 pixels")
    assert psutil.Process().memory_info().rss - before < 100e6
    assert refusal(opened(tiny_clip, max_pixels=100), saved(scene(1), "PNG")).startswith("image bomb: 150x110 pixels")


def test_helper_processes_change_no_vector_and_serve_piece_after_piece(tiny_clip: Clip, encoder: LoadedEncoder) -> None:
    pictures = [*every_kind().values(), b"broken"]
    helped = opened(tiny_clip, Compute(num_workers=2, batch_rows=7))
    before = set(psutil.Process().children())  # the session's servers, where other tests have started them
    helped.start()
    try:
        assert helped.prepare(rows_of(pictures)).ahead == 4
        for _ in range(2):
            vectors, refused = embed(helped, rows_of(pictures))
            assert list(refused) == [60]
            assert lowest_cosine(vectors[:60], embed(encoder, rows_of(pictures))[0][:60]) > 0.999999
    finally:
        helped.close()
    assert set(psutil.Process().children()) <= before


@pytest.mark.parametrize("workers", [0, 1])
def test_it_is_told_how_many_pictures_are_through(tiny_clip: Clip, workers: int) -> None:
    """By which a rank with slow pictures is told from one that hangs."""
    helped = opened(tiny_clip, Compute(num_workers=workers, batch_rows=7))
    helped.start()
    try:
        work = helped.prepare(rows_of([*list(every_kind().values())[:20], b"broken"]))
        assert work.loaded == 0
        assert len(list(work.load(work.plan(range(21)), alone=False))) == 3
        assert work.loaded == 21
        list(work.load([[0]], alone=True))
        assert work.loaded == 22
    finally:
        helped.close()


def break_down(_decoder: Decoder, _picture: object) -> None:
    raise RuntimeError("a fault of the program's")


def die(_decoder: Decoder, _picture: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize(
    ("act", "error", "said"), [(break_down, RuntimeError, "a fault of the program's"), (die, Fatal, "a process that decodes images died")]
)
def test_a_helper_that_died_is_told_from_an_error_in_one(
    tiny_clip: Clip, monkeypatch: pytest.MonkeyPatch, act: Callable[..., None], error: type[Exception], said: str
) -> None:
    """torch raises a RuntimeError that says "DataLoader worker" of either."""
    helped = opened(tiny_clip, Compute(num_workers=1, batch_rows=7))
    monkeypatch.setattr(Decoder, "__call__", act)
    try:
        work = helped.prepare(rows_of([saved(scene(1), "PNG")]))
        with pytest.raises(error, match=said):
            list(work.load(work.plan([0]), alone=False))
    finally:
        helped.close()


def large_jpegs() -> list[bytes]:
    """Two, three and many times the 64 x 64 of the tiny model; grey, of four inks, turned, progressive, and too narrow to be made smaller."""
    image, turned = photograph(1), Image.Exif()
    turned[0x0112] = 6
    shapes = [saved(photograph(seed, *size), "JPEG") for seed, size in enumerate([(128, 128), (200, 200), (700, 300), (2000, 100)])]
    kinds = [image.convert("L"), image.convert("CMYK"), image]
    return [*shapes, *(saved(kind, "JPEG", quality=90) for kind in kinds), saved(image, "JPEG", exif=turned, progressive=True)]


def test_jpegs_unpacked_at_a_smaller_size_are_near_to_what_open_clip_makes_of_them(encoder: LoadedEncoder, tiny_clip: Clip) -> None:
    pictures = large_jpegs()
    vectors, refused = embed(encoder, rows_of(pictures))
    expected = stock(tiny_clip, pictures)
    assert not refused
    assert 0.999 <= lowest_cosine(vectors, expected) < 0.9999999
    assert lowest_cosine(vectors[3:4], expected[3:4]) > 0.999999  # 100 pixels high: not twice the model's 64


def test_exact_unpacks_at_full_size(tiny_clip: Clip) -> None:
    pictures = large_jpegs()
    assert lowest_cosine(embed(opened(tiny_clip, exact=True), rows_of(pictures))[0], stock(tiny_clip, pictures)) >= 0.999999


def test_a_large_jpeg_that_is_cut_short_is_refused_all_the_same(encoder: LoadedEncoder) -> None:
    whole = saved(photograph(1), "JPEG")
    assert refusal(encoder, whole[: len(whole) // 2]).startswith("undecodable image: ")


def test_a_setting_that_moves_vectors_is_part_of_what_they_are_kept_under() -> None:
    loose, exact = (OpenClipEncoder(exact=exact).model_dump() for exact in (False, True))
    assert loose != exact  # what the fingerprint is made of


def test_words_are_searched_with_the_text_tower(encoder: LoadedEncoder, tiny_clip: Clip) -> None:
    logging.disable(logging.WARNING)
    model, _, _ = open_clip.create_model_and_transforms(tiny_clip.architecture)
    logging.disable(logging.NOTSET)
    with torch.inference_mode():
        expected = model.eval().encode_text(open_clip.get_tokenizer(tiny_clip.architecture)(["a red car"]), normalize=True).numpy()
    assert lowest_cosine(encoder.embed_queries(["a red car"]), expected) > 0.99999


def test_pictures_that_are_searched_with_are_embedded_as_rows_are(encoder: LoadedEncoder, tmp_path: Path) -> None:
    data, path = saved(scene(1), "JPEG"), tmp_path / "query.jpg"
    path.write_bytes(data)
    assert lowest_cosine(encoder.embed_pictures([str(path)]), embed(encoder, rows_of([data]))[0]) > 0.999999
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(data[: len(data) // 2])
    for place, reason in ((broken, "undecodable image"), (tmp_path / "none.jpg", "missing image"), (tmp_path, "unreadable image")):
        with pytest.raises(BadInput, match=reason):
            encoder.embed_pictures([str(place)])
    with pytest.raises(BadInput, match="image bomb"):
        opened(Clip(architecture=encoder._settings.architecture, pretrained=""), max_pixels=100).embed_pictures([str(path)])


def texts_of(*texts: str) -> pa.Table:
    return pa.table({"text": pa.array(texts, pa.string())})


def test_texts_are_rows_as_well_and_the_same_as_searches_in_words(encoder: LoadedEncoder) -> None:
    texts = [f"a picture of number {n}" * (1 + n % 3) for n in range(40)]
    vectors, refused = embed(encoder, texts_of(*texts))
    assert not refused
    assert lowest_cosine(vectors, encoder.embed_queries(texts)) > 0.999999
    assert encoder.prepare(texts_of(*texts)).stats.truncated == 0


def test_what_the_text_tower_does_not_read_is_counted(encoder: LoadedEncoder) -> None:
    words = " ".join(["kite"] * 75)  # 77 tokens with those for the beginning and the end
    stats = encoder.prepare(texts_of(words, f"{words} string", f"{words} a kite string")).stats
    assert (stats.truncated, stats.tokens_cut) == (2, 4)


def test_a_text_of_megabytes_costs_no_more_than_what_is_read_of_it(encoder: LoadedEncoder) -> None:
    """open_clip's own tokenizer would take hours over a word of this length."""
    word = "kite" * 500_000
    vectors = encoder.embed_queries([word, word[:4_000]])
    assert lowest_cosine(vectors[:1], vectors[1:]) > 0.999999
    assert encoder.prepare(texts_of(word)).stats.truncated == 1


@pytest.mark.parametrize("pretrained", ["no_such_tag", "/no/such/file.pt"])
def test_a_checkpoint_that_is_not_there_is_named(pretrained: str) -> None:
    with pytest.raises(BadInput, match=pretrained) as refused:
        opened(Clip(architecture="ViT-S-32-alt", pretrained=pretrained))
    assert "\n" not in str(refused.value)


def test_a_folder_without_weights_is_refused_rather_than_filled_with_random_ones(tiny_clip: Clip, tmp_path: Path) -> None:
    source = Path(tiny_clip.architecture.removeprefix("local-dir:"))
    (tmp_path / "open_clip_config.json").write_bytes((source / "open_clip_config.json").read_bytes())
    with pytest.raises(BadInput, match="cannot be loaded"):
        opened(Clip(architecture=f"local-dir:{tmp_path}", pretrained=""))


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path: Path) -> None:
    class Malice:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return exec, ("raise SystemExit('ran')",)

    torch.save({"state_dict": Malice()}, tmp_path / "evil.pt")
    with pytest.raises(BadInput, match="cannot be loaded"):
        opened(Clip(architecture="ViT-S-32-alt", pretrained=str(tmp_path / "evil.pt")))

"""A picture's size is read from its header, and one with too many pixels is never unpacked, whatever its format."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import pytest
from PIL import Image

from tasks.adapters.files.pictures import FORMATS
from tasks.domain.job.encoder import OpenClipEncoder
from tasks.worker.encoders.image_decoder import Decoder
from tests.builders.worker.pictures import saved, scene

SIDE = 30_000  # 900 million pixels: 2.7 GB as RGB
LIMIT = OpenClipEncoder().max_pixels


def unpack(_: object) -> None:
    raise AssertionError("a picture was unpacked")


def put(data: bytes, at: int, header: bytes) -> bytes:
    return data[:at] + header + data[at + len(header) :]


def forged(kind: str) -> bytes:
    """A small picture whose header says that it is enormous."""
    options = {"no_jp2": True} if kind == "JPEG2000" else {}
    if kind == "WEBP":
        options = {"save_all": True, "append_images": [scene(2, 20, 20)]}
    small = scene(1, 20, 20).quantize(4) if kind == "GIF" else scene(1, 20, 20)
    data = saved(small, kind, **options)
    if kind == "PNG":
        data = put(data, 16, struct.pack(">II", SIDE, SIDE))
        return put(data, 29, struct.pack(">I", zlib.crc32(data[12:29])))
    if kind == "PPM":
        return b"P6 %d %d 255\n" % (SIDE, SIDE) + data[-100:]
    if kind == "TIFF":
        return forged_tiff(data)
    places = {
        "JPEG": (data.find(b"\xff\xc0") + 5, ">HH"),
        "GIF": (6, "<HH"),
        "BMP": (18, "<ii"),
        "TGA": (12, "<HH"),
        "JPEG2000": (data.find(b"\xff\x51") + 6, ">II"),
    }
    if kind == "WEBP":
        return put(data, data.index(b"VP8X") + 12, (SIDE - 1).to_bytes(3, "little") * 2)
    at, form = places[kind]
    return put(data, at, struct.pack(form, SIDE, SIDE))


def forged_tiff(data: bytes) -> bytes:
    first = int.from_bytes(data[4:8], "little")
    for at in range(first + 2, first + 2 + 12 * int.from_bytes(data[first : first + 2], "little"), 12):
        if data[at : at + 2] in (b"\x00\x01", b"\x01\x01"):  # width, height
            data = put(data, at + 2, struct.pack("<HII", 4, 1, SIDE))
    return data


def highest_memory() -> int:
    """Bytes; the kernel's own mark, since the last reset."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) << 10


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_tells_its_size_before_it_is_unpacked(kind: str) -> None:
    picture = scene(1, 300, 200)
    data = saved(picture.quantize(4) if kind == "GIF" else picture, kind)
    decode = Decoder(transform=unpack, max_pixels=300 * 200 - 1)  # type: ignore[arg-type]
    assert decode((data, None)) == "image bomb: 300x200 pixels, more than encoder.max_pixels 59999"


@pytest.mark.parametrize("kind", [kind for kind in FORMATS if kind not in ("AVIF", "MPO", "HEIF")])
def test_a_forged_header_takes_no_memory(kind: str) -> None:
    data = forged(kind)
    Path("/proc/self/clear_refs").write_text("5")
    before = highest_memory()
    reason = Decoder(transform=unpack, max_pixels=LIMIT)((data, None))  # type: ignore[arg-type]
    assert reason == f"image bomb: {SIDE}x{SIDE} pixels, more than encoder.max_pixels {LIMIT}"
    assert highest_memory() - before < 50e6


def test_a_gif_frame_larger_than_its_screen_counts() -> None:
    data = saved(scene(1, 20, 20).quantize(4), "GIF")
    frame = data.rindex(b"\x2c\0\0\0\0" + struct.pack("<HH", 20, 20))
    reason = Decoder(transform=unpack, max_pixels=LIMIT)((put(data, frame + 5, struct.pack("<HH", SIDE, SIDE)), None))  # type: ignore[arg-type]
    assert str(reason).startswith(f"image bomb: {SIDE}x{SIDE} pixels")


@pytest.mark.parametrize("size", [(5_000, 1), (1, 5_000), (1_000_000, 1)])
def test_a_picture_that_would_be_resized_to_gigabytes_is_not_unpacked(size: tuple[int, int]) -> None:
    reason = Decoder(transform=unpack, max_pixels=LIMIT, covered=(224, 224))((saved(Image.new("L", size), "PNG"), None))  # type: ignore[arg-type]
    wide, high = (224 * side // min(size) for side in size)
    assert reason == f"too narrow: {size[0]}x{size[1]} pixels would be resized to {wide}x{high}: crop it or leave it out"


def test_a_panorama_is_no_bomb() -> None:
    decode = Decoder(transform=lambda image: image.size, max_pixels=LIMIT, covered=(224, 224))  # type: ignore[arg-type, return-value]
    assert decode((saved(Image.new("L", (20_000, 400)), "PNG"), None)) == (20_000, 400)
    squashed = Decoder(transform=lambda image: image.size, max_pixels=LIMIT)  # type: ignore[arg-type, return-value]
    assert squashed((saved(Image.new("L", (5_000, 1)), "PNG"), None)) == (5_000, 1)

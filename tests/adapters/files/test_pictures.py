"""Pixels of any depth become 8-bit ones by the range of their type."""

from __future__ import annotations

import io
import struct

import numpy as np
from PIL import Image

from tasks.adapters.files.pictures import FORMATS, eight_bits
from tasks.adapters.report.thumbnails import thumbnail


def twelve_bits() -> bytes:
    """A TIFF of two pixels, black and white, as scanners write them: three bytes."""
    tags = [(256, 3, 1, 2), (257, 3, 1, 1), (258, 3, 1, 12), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, 1, 8), (277, 3, 1, 1), (279, 4, 1, 3)]
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    return b"II*\0" + struct.pack("<I", 12) + b"\x00\x0f\xff\0" + struct.pack("<H", len(tags)) + entries + bytes(4)


def test_twelve_bits_are_scaled_by_twelve() -> None:
    with Image.open(io.BytesIO(twelve_bits()), formats=FORMATS) as image:
        assert np.asarray(eight_bits(image)).tolist() == [[0, 255]]


def test_thumbnails_show_16_bits_as_the_encoder_sees_them() -> None:
    out = io.BytesIO()
    Image.fromarray(np.full((8, 8), 100 * 257, np.uint16)).save(out, "PNG")
    small = thumbnail(out.getvalue(), None, max_pixels=64)
    assert small
    with Image.open(io.BytesIO(small)) as image:
        assert np.asarray(image.convert("L")).mean() == 100

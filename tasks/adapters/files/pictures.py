"""Supported image formats, and conversion of pixels to 8 bits."""

from __future__ import annotations

import importlib
from importlib.util import find_spec

import numpy as np
from PIL import Image

if find_spec("pillow_heif"):  # the extra `heif`: the format of phone cameras
    importlib.import_module("pillow_heif").register_heif_opener()

# PIL supports more: EPS would start Ghostscript, and an ICO may contain a PNG whose size its header does not state.
Image.init()  # otherwise PIL loads only the most common formats, and fails on the name of any other
_WANTED = ("JPEG", "MPO", "PNG", "WEBP", "GIF", "TIFF", "BMP", "AVIF", "JPEG2000", "PPM", "TGA", "HEIF")
FORMATS = tuple(name for name in _WANTED if name in Image.OPEN)
BITS_PER_SAMPLE = 258  # TIFF's tag


def eight_bits(image: Image.Image) -> Image.Image:
    """Return the image with 16-bit pixels scaled to 8 bits; PIL would clip them, which makes them white.

    Raises:
        ValueError: its pixels have no defined range: floats, and integers of 32 bits.
    """
    if image.mode.startswith("I;16"):
        return _scaled(image, _bits(image) - 8)
    if image.mode == "I" and image.format == "PPM":  # PIL has scaled them to 16 bits
        return _scaled(image, 8)
    if image.mode in {"I", "F"}:
        kind = {"I": "integers of 32 bits", "F": "floating-point numbers"}[image.mode]
        raise ValueError(f"its pixels are {kind}, whose range is unknown: save it with 8 or 16 bits")
    return image


def _bits(image: Image.Image) -> int:
    """Return the bits of a pixel: TIFFs of cameras may have 12."""
    bits = getattr(image, "tag_v2", {}).get(BITS_PER_SAMPLE, 16)
    return int(bits[0] if isinstance(bits, tuple) else bits)


def _scaled(image: Image.Image, bits: int) -> Image.Image:
    return Image.fromarray((np.asarray(image) >> bits).clip(0, 255).astype(np.uint8))

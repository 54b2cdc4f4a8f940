"""Which pictures are opened, and their pixels as 8-bit ones."""

from __future__ import annotations

import importlib
from importlib.util import find_spec

import numpy as np
from PIL import Image

if find_spec("pillow_heif"):  # the extra `heif`: what telephones write
    importlib.import_module("pillow_heif").register_heif_opener()

# PIL knows more: EPS would start Ghostscript, and an ICO may hold a PNG that its header does not size.
Image.init()  # otherwise PIL knows the most common ones only, and fails on the name of any other
_WANTED = ("JPEG", "MPO", "PNG", "WEBP", "GIF", "TIFF", "BMP", "AVIF", "JPEG2000", "PPM", "TGA", "HEIF")
FORMATS = tuple(name for name in _WANTED if name in Image.OPEN)
BITS_PER_SAMPLE = 258  # TIFF's tag


def eight_bits(image: Image.Image) -> Image.Image:
    """The picture, with pixels of 16 bits scaled by their range; PIL would cut them off, which makes them white.

    Raises:
        ValueError: its numbers have no range: floats, and integers of 32 bits.
    """
    if image.mode.startswith("I;16"):
        return _scaled(image, _bits(image) - 8)
    if image.mode == "I" and image.format == "PPM":  # PIL has scaled them to 16 bits
        return _scaled(image, 8)
    if image.mode in {"I", "F"}:
        kind = {"I": "integers of 32 bits", "F": "floating-point numbers"}[image.mode]
        raise ValueError(f"its pixels are {kind}, whose range is not known: save it with 8 or 16 bits")
    return image


def _bits(image: Image.Image) -> int:
    """Bits of a pixel: cameras' TIFFs have 12 as well."""
    found = getattr(image, "tag_v2", {}).get(BITS_PER_SAMPLE, 16)
    return int(found[0] if isinstance(found, tuple) else found)


def _scaled(image: Image.Image, bits: int) -> Image.Image:
    return Image.fromarray((np.asarray(image) >> bits).clip(0, 255).astype(np.uint8))

"""Decodes an image's bytes into the model's input, with open_clip's own transform.

JPEGs can be decoded at a half, a quarter or an eighth of their size for a fraction of the work. The result is never smaller than the
model's input; open_clip's transform then resizes, crops and scales it.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image, UnidentifiedImageError

from tasks.adapters.files.access import reading
from tasks.adapters.files.pictures import FORMATS, eight_bits
from tasks.adapters.files.row_files import read_file
from tasks.domain.errors import KitestringError, Transient
from tasks.domain.job.references import References
from tasks.worker.encoding_errors import first_line

Image.MAX_IMAGE_PIXELS = None  # replaced by the job's limit, checked below
LARGEST_RESIZED = 32 << 20  # maximum pixels of a resized image: 96 MiB, held two or three times

Picture = tuple[bytes | None, str | None]  # the encoded image, or its location
Decoded = torch.Tensor | str | Transient  # (channels, height, width); or why it cannot be embedded; or a transient error


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoder:
    """Decodes images one by one; holds no open file, so that it can be copied to worker processes."""

    transform: Callable[[Any], torch.Tensor]  # open_clip's transform for inference
    max_pixels: int
    smallest: tuple[int, int] | None = None  # minimum width and height at which a JPEG may be decoded; None: only at full size
    covered: tuple[int, int] | None = (
        None  # width and height that an image is resized to cover before cropping; None: it is resized in another way
    )
    references: References | None = None  # the files that rows may reference; None: the user names each image

    def __call__(self, picture: Picture) -> Decoded:
        """Return the image as a tensor, or the reason why it cannot be embedded."""
        data, uri = picture
        try:
            data = _fetch(uri or "", self.references) if data is None else data
            return self._decode(data)
        except FileNotFoundError:
            return f"missing image: {uri}"
        except Transient as error:
            return error
        except KitestringError as error:
            return f"unreadable image: {error}"
        except UnidentifiedImageError:
            return f"undecodable image: {_describe(data or b'')}"
        except Exception as error:  # noqa: BLE001 - decoders raise SyntaxError, struct.error and others on damaged files
            return f"undecodable image: {first_line(error)}"

    def _decode(self, data: bytes) -> Decoded:
        # The header has the size, so no pixel is decoded yet. The warnings concern metadata, which is not used.
        with warnings.catch_warnings(action="ignore"), Image.open(io.BytesIO(data), formats=FORMATS) as image:
            width, height = image.size
            if width * height > self.max_pixels:
                return f"image bomb: {width}x{height} pixels, more than encoder.max_pixels {self.max_pixels}"
            resized = self._resized(width, height)
            if resized:
                return f"too narrow: {width}x{height} pixels would be resized to {resized}: crop it or leave it out"
            if self.smallest:
                image.draft(None, self.smallest)  # None: keep its colour mode; formats other than JPEG ignore this call
            try:
                plain = eight_bits(image)
            except ValueError as error:
                return f"pixels without a range: {error}"
            return self.transform(plain)

    def _resized(self, width: int, height: int) -> str:
        """Return the size after resizing if it is too large; empty otherwise."""
        if not self.covered:
            return ""
        scale = max(self.covered[0] / width, self.covered[1] / height)
        wide, high = round(width * scale), round(height * scale)
        return f"{wide}x{high}" if wide * high > max(LARGEST_RESIZED, width * height) else ""


_KNOWN = {b"<svg": "SVG", b"<!doctype": "HTML", b"<html": "HTML", b"%pdf": "PDF", b"{": "JSON"}
_BRANDS = {b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1"}  # ISO media brands of HEIF, the format of phone cameras


def _describe(data: bytes) -> str:
    """Describe a file that no decoder recognises."""
    head = data[:512].lstrip().lower()
    if not head:
        return "the file is empty"
    if data[4:8] == b"ftyp" and data[8:12] in _BRANDS:
        return "HEIC needs the extra 'heif': install kitestring[heif], or convert it to JPEG"
    name = next((name for begin, name in _KNOWN.items() if head.startswith(begin)), "SVG" if b"<svg" in head else None)
    return f"the file is {name}, not an image that can be decoded" if name else "the format is not known, or the file is damaged"


def _fetch(uri: str, references: References | None) -> bytes:
    """Read the file's bytes; raise FileNotFoundError for a missing file, which concerns only one row."""
    missing: FileNotFoundError | None = None
    with reading(uri, "picture"):
        try:
            return read_file(uri, references)
        except FileNotFoundError as error:
            missing = error
    raise missing or FileNotFoundError(uri)

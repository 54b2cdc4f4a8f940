"""From the bytes of a picture to what the model takes: what open_clip makes of `Image.open`.

JPEGs can be unpacked at a half, a quarter or an eighth of their size for a fraction of the work. What is left is never smaller
than what the model takes, and resized, cropped and scaled by open_clip's own transform.
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

Image.MAX_IMAGE_PIXELS = None  # counted below, against the job's own limit
LARGEST_RESIZED = 32 << 20  # pixels that a picture may have once it is resized: 96 MiB, two or three times over

Picture = tuple[bytes | None, str | None]  # the encoded picture, or where it is
Decoded = torch.Tensor | str | Transient  # (channels, height, width), why it cannot be embedded, or a fault that may pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoder:
    """Opens pictures one by one; holds no open file, so that helper processes can have a copy."""

    transform: Callable[[Any], torch.Tensor]  # open_clip's own, for inference
    max_pixels: int
    smallest: tuple[int, int] | None = None  # width and height that a JPEG may be unpacked at; None: at its full size only
    covered: tuple[int, int] | None = None  # width and height that it is resized to cover, before it is cropped; None: not that way
    references: References | None = None  # what rows may name; None: the user names each picture

    def __call__(self, picture: Picture) -> Decoded:
        """The picture as a tensor; a picture that cannot be one gives the reason, in words."""
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
            return f"undecodable image: {_found_in(data or b'')}"
        except Exception as error:  # noqa: BLE001 - decoders raise SyntaxError, struct.error and what not on damaged files
            return f"undecodable image: {first_line(error)}"

    def _decode(self, data: bytes) -> Decoded:
        # The header has the size before a pixel is decoded. The warnings are about metadata that is not looked at.
        with warnings.catch_warnings(action="ignore"), Image.open(io.BytesIO(data), formats=FORMATS) as image:
            width, height = image.size
            if width * height > self.max_pixels:
                return f"image bomb: {width}x{height} pixels, more than encoder.max_pixels {self.max_pixels}"
            resized = self._resized(width, height)
            if resized:
                return f"too narrow: {width}x{height} pixels would be resized to {resized}: crop it or leave it out"
            if self.smallest:
                image.draft(None, self.smallest)  # None: in its own mode; other formats than JPEG take no notice
            try:
                plain = eight_bits(image)
            except ValueError as error:
                return f"pixels without a range: {error}"
            return self.transform(plain)

    def _resized(self, width: int, height: int) -> str:
        """The size that a picture is resized to where that is too large; empty where it is not."""
        if not self.covered:
            return ""
        scale = max(self.covered[0] / width, self.covered[1] / height)
        wide, high = round(width * scale), round(height * scale)
        return f"{wide}x{high}" if wide * high > max(LARGEST_RESIZED, width * height) else ""


_KNOWN = {b"<svg": "SVG", b"<!doctype": "HTML", b"<html": "HTML", b"%pdf": "PDF", b"{": "JSON"}
_BRANDS = {b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1"}  # of ISO media files: HEIF, as telephones write it


def _found_in(data: bytes) -> str:
    """What a file is that no decoder knows."""
    head = data[:512].lstrip().lower()
    if not head:
        return "the file is empty"
    if data[4:8] == b"ftyp" and data[8:12] in _BRANDS:
        return "HEIC needs the extra 'heif': install kitestring[heif], or convert it to JPEG"
    found = next((name for begin, name in _KNOWN.items() if head.startswith(begin)), "SVG" if b"<svg" in head else None)
    return f"the file is {found}, not an image that can be decoded" if found else "the format is not known, or the file is damaged"


def _fetch(uri: str, references: References | None) -> bytes:
    """The file's bytes; a missing file stays a FileNotFoundError, since here it is one row's trouble."""
    missing: FileNotFoundError | None = None
    with reading(uri, "picture"):
        try:
            return read_file(uri, references)
        except FileNotFoundError as error:
            missing = error
    raise missing or FileNotFoundError(uri)

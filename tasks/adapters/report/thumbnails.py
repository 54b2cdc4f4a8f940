"""Thumbnails for pages."""

from __future__ import annotations

import io
import warnings

from PIL import Image

from tasks.adapters.files.access import reading
from tasks.adapters.files.pictures import FORMATS, eight_bits
from tasks.adapters.files.row_files import read_file
from tasks.domain.errors import KitestringError
from tasks.domain.job.references import References

THUMBNAIL_PIXELS = 320  # longest side


def thumbnail(
    data: bytes | None, uri: str | None, *, max_pixels: int, side: int = THUMBNAIL_PIXELS, references: References | None = None
) -> bytes | None:
    """A JPEG of at most `side` pixels in each direction, from encoded data or from a URI that `references` allows a row to name.

    Returns:
        None if the picture cannot be read or has more than `max_pixels`.
    """
    try:
        picture = data if data is not None else _fetch(uri or "", references)
        with warnings.catch_warnings(action="ignore"), Image.open(io.BytesIO(picture), formats=FORMATS) as image:
            return _small(image, side) if image.width * image.height <= max_pixels else None
    except KitestringError:
        return None
    except Exception:  # noqa: BLE001 - decoders raise SyntaxError, struct.error and others; hits are shown without a picture
        return None


def _small(image: Image.Image, side: int) -> bytes:
    image = eight_bits(image)
    image.thumbnail((side, side))
    out = io.BytesIO()
    image.convert("RGB").save(out, "JPEG", quality=85)
    return out.getvalue()


def _fetch(uri: str, references: References | None) -> bytes:
    with reading(uri, "picture"):
        return read_file(uri, references)

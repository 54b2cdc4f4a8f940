"""Small pictures for a page."""

from __future__ import annotations

import io
import warnings

from PIL import Image

from tasks.adapters.files.access import reading
from tasks.adapters.files.pictures import FORMATS, eight_bits
from tasks.adapters.files.row_files import read_file
from tasks.domain.errors import KitestringError
from tasks.domain.job.references import References

THUMBNAIL_PIXELS = 320  # pixels


def thumbnail(
    data: bytes | None, uri: str | None, *, max_pixels: int, side: int = THUMBNAIL_PIXELS, references: References | None = None
) -> bytes | None:
    """A JPEG of at most `side` pixels each way, from an encoded picture or from where it is, which `references` lets a row name;
    None where that cannot be.
    """
    try:
        picture = data if data is not None else _fetch(uri or "", references)
        with warnings.catch_warnings(action="ignore"), Image.open(io.BytesIO(picture), formats=FORMATS) as image:
            return _small(image, side) if image.width * image.height <= max_pixels else None
    except KitestringError:
        return None
    except Exception:  # noqa: BLE001 - decoders raise SyntaxError, struct.error and what not; a hit can be shown without
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

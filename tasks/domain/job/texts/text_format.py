"""Formats of text files: the settings of CSV, and those that JSON Lines has as well."""

from __future__ import annotations

import codecs
from typing import Annotated

from pydantic import AfterValidator, Field

from tasks.domain.strict import ADDED_LATER

ONE_DELIMITER, ONE_CHARACTER = r"^([ -~\t]|auto)$", r"^[ -~]?$"
DELIMITER: str = Field(
    ",",
    pattern=ONE_DELIMITER,
    description="Column delimiter, or auto: the one of , ; tab | with which the header has the needed columns. For CSV only.",
)
QUOTE: str = Field('"', pattern=ONE_CHARACTER, description='Character around values that contain delimiters; "": none. For CSV only.')
ESCAPE: str = Field(
    "",
    pattern=ONE_CHARACTER,
    description=r"Character that escapes the next one, such as \ in files of Spark and MySQL. Left empty: quotes are doubled. For CSV only.",
)
ENCODING: str = Field("utf-8", description="Encoding of the text, such as utf-16, cp1252 or latin-1. For CSV and JSON Lines only.")


def _check_encoding(name: str) -> str:
    try:
        "".encode(name)
        codecs.getincrementaldecoder(name)("strict")
    except (LookupError, ValueError, TypeError):
        raise ValueError(f"'{name}' is not a text encoding: give one such as utf-8, utf-16, cp1252 or latin-1") from None
    return name


QuoteCharacter = Annotated[str, ADDED_LATER]
Encoding = Annotated[str, ADDED_LATER, AfterValidator(_check_encoding)]

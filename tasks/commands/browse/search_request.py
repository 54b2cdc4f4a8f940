"""The request documents of the HTTP API."""

from __future__ import annotations

import base64
import binascii
from typing import Any, TypeVar

from pydantic import BaseModel, Field, ValidationError

from tasks.adapters.targets.field_conditions import FieldCondition
from tasks.domain.errors import BadInput
from tasks.domain.job.gate import SearchMode
from tasks.domain.job.parse import explain_errors
from tasks.domain.strict import Strict

M = TypeVar("M", bound=BaseModel)
LARGEST_K = 1_000
QUERY_CHARACTERS = 100_000
QUERY_PICTURE_BYTES = 32 << 20


class SearchRequest(Strict):
    """`POST /search`."""

    text: str | None = Field(None, max_length=QUERY_CHARACTERS, description="Words to search for.")
    picture: str | None = Field(None, description="A picture to search with, in base64; instead of text.")
    k: int = Field(10, ge=1, le=LARGEST_K, description="Number of hits.")
    mode: SearchMode | None = Field(None, description="dense, text or hybrid. Left out: hybrid if the collection has full text.")
    filter: str = Field("", description="A Milvus filter expression over the fields.")
    where: tuple[FieldCondition, ...] = Field((), description='Conditions: {"field": "year", "is": ">=", "value": 2020}.')
    collection: str | None = Field(None, description="A collection of /info, or the alias. Left out: that of the job's encoder.")
    explain: bool = Field(False, description="Also the rank of each hit by meaning and by words.")
    all_chunks: bool = Field(False, description="Every chunk may be a hit, not only the best of each document.")

    def picture_bytes(self) -> bytes:
        """The decoded picture, from base64 or a data URI.

        Raises:
            BadInput: it is not base64.
        """
        data = (self.picture or "").rpartition("base64,")[2]
        try:
            return base64.b64decode(data, validate=True)
        except (binascii.Error, ValueError):
            raise BadInput("picture: it is not base64") from None


class SaveRequest(Strict):
    """`POST /questions`."""

    query: str = Field(max_length=QUERY_CHARACTERS)
    relevant: tuple[str, ...] = Field(max_length=LARGEST_K, description="Keys of the right answers; of chunks, those of their documents.")


class PicturesRequest(Strict):
    """`POST /pictures`."""

    ids: tuple[str, ...] = Field(max_length=LARGEST_K)


def read_request(model: type[M], document: Any) -> M:
    """Parse a request document.

    Raises:
        BadInput: it is invalid; names each invalid field.
    """
    if not isinstance(document, dict):
        raise BadInput('the request is not a JSON object such as {"text": "words", "k": 10}')
    try:
        return model.model_validate(document)
    except ValidationError as error:
        raise BadInput(explain_errors(error, model)) from error

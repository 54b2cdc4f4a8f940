"""Reads a JSON array item by item; memory holds a chunk and an item, never the file."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator

from tasks.adapters.sources.text_files.line_reader import BOM, LONGEST_ROW_BYTES, Line, Stream
from tasks.domain.errors import BadInput

_BEGIN = re.compile(rb"\s*\[\s*[\]{]")
_ONE_BY_ONE = "write one object on each line instead (jq -c '.[]')"


def is_array(head: bytes) -> bool:
    """Return whether a file with this beginning is one array of objects, not JSON Lines."""
    return bool(_BEGIN.match(head.removeprefix(BOM)))


class ArrayItems:
    """The items of an array as lines; `place` is the item's number, from 1.

    Args:
        stream: UTF-8.
        path: for messages.
        size: bytes to read at a time.
    """

    def __init__(self, stream: Stream, path: str, *, size: int) -> None:
        self._stream, self._path, self._size = stream, path, size
        # Bytes that are not UTF-8 are reported later, with their row.
        self._decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        # Only the end of an item matters: numbers of any size are not converted.
        self._scan = json.JSONDecoder(parse_int=str, parse_float=str, parse_constant=str, strict=False).raw_decode
        self._text, self._at, self._number = "", 0, 1

    def __iter__(self) -> Iterator[Line]:
        """Yield all items.

        Raises:
            BadInput: the array is invalid or truncated (names the item), or an item is too long.
        """
        if self._next() == "\ufeff":
            self._at += 1
        mark = self._take()  # the bracket
        while self._next() != "]" or mark == ",":
            yield Line(self._item(), f"item {self._number}")
            self._number += 1
            if self._next() == "]":
                break
            mark = self._take()
            if mark != ",":
                raise self._broken("a comma or ] is missing before it")
        self._at += 1
        if self._next():
            raise self._broken("something follows the array")

    def _next(self) -> str:
        """Return the next non-space character; "" at the end of the file."""
        while True:
            while self._text[self._at : self._at + 1] in " \t\r\n" and self._at < len(self._text):
                self._at += 1
            if self._at < len(self._text) or not self._more():
                return self._text[self._at : self._at + 1]

    def _take(self) -> str:
        character = self._next()
        self._at += 1
        return character

    def _item(self) -> bytes:
        while True:
            try:
                _, stop = self._scan(self._text, self._at)
                break
            except (ValueError, RecursionError) as error:
                if len(self._text) - self._at > LONGEST_ROW_BYTES or not self._more():
                    raise self._broken(f"it is not JSON, truncated, or longer than {LONGEST_ROW_BYTES} characters") from error
        data = self._text[self._at : stop].encode("utf-8", "surrogateescape")
        self._at = stop
        return data

    def _more(self) -> bool:
        """Read the next chunk, discarding consumed text. Returns whether there was one."""
        chunk = self._stream.read(self._size)
        self._text, self._at = self._text[self._at :] + self._decoder.decode(chunk, not chunk), 0
        return bool(chunk)

    def _broken(self, problem: str) -> BadInput:
        return BadInput(f"{self._path} item {self._number}: {problem}: repair the array, or {_ONE_BY_ONE}")

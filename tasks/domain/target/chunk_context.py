"""A chunk and its context in the document."""

from __future__ import annotations

from collections.abc import Mapping

from tasks.domain.strict import Strict


class ChunkContext(Strict):
    """Characters [start, end) of a document, and the text before and after them as far as it is available."""

    document: str
    start: int
    end: int
    before: str = ""
    after: str = ""

    @classmethod
    def between(cls, chunk: Mapping[str, object], earlier: Mapping[str, object] | None, later: Mapping[str, object] | None) -> ChunkContext:
        """Build the context of a chunk from the chunks before and after it, which may overlap it; each as its fields."""
        start, end = int(str(chunk["start"])), int(str(chunk["end"]))
        before = str(earlier["text"])[: max(0, start - int(str(earlier["start"])))] if earlier else ""
        after = str(later["text"])[max(0, end - int(str(later["start"]))) :] if later else ""
        return cls(document=str(chunk["document"]), start=start, end=end, before=before, after=after)

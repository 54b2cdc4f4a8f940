"""The moves of an alias, kept beside the encoders of a corpus: numbered objects that are written once."""

from __future__ import annotations

import re

from tasks.adapters.damages import Damages
from tasks.adapters.documents import commit_document, read_document
from tasks.domain.collection import target_fingerprint
from tasks.domain.job import Job
from tasks.domain.layout import promotion, promotions
from tasks.domain.ports import Store
from tasks.domain.promotion import Promotion, is_written

_MOVE = re.compile(r"\d{6}\.json")


class Promotions:
    """What a job's alias led to, whatever encoder was behind it.

    Args:
        store: the checkpoint.
        job: names corpus, target and alias.
        damages: takes what cannot be read, which is then passed over. Left out, it is passed over without a word.
    """

    def __init__(self, store: Store, job: Job, damages: Damages | None = None) -> None:
        self._store, self._corpus = store, job.corpus
        self._damages = damages or Damages(store, job.corpus)
        self._alias = target_fingerprint(job.target, job.target.collection)

    def read(self) -> list[Promotion]:
        """Every move that can be read, in order."""
        return [move for number in self._numbers() if (move := self._read(number))]

    @property
    def damaged(self) -> bool:
        """Whether a move was found that cannot be read: it may be the one that led searches to where they are."""
        folder = promotions(self._corpus, self._alias)
        return any(key.startswith(folder) for key in self._damages.keys)

    def note(self, move: Promotion) -> None:
        """Write a move down before it is made; one that a kill cut short stands there already."""
        while not is_written(self.read(), move):
            number = max(self._numbers(), default=0) + 1
            commit_document(self._store, promotion(self._corpus, self._alias, number), move, damages=self._damages)

    def _read(self, number: int) -> Promotion | None:
        return read_document(self._store, promotion(self._corpus, self._alias, number), Promotion, damages=self._damages)

    def _numbers(self) -> list[int]:
        """From a listing: one that is gone does not hide those after it."""
        folder = promotions(self._corpus, self._alias)
        names = (found.key.removeprefix(folder) for found in self._store.list(folder))
        return sorted(int(name[:6]) for name in names if _MOVE.fullmatch(name))

"""The moves of an alias, stored beside the encoders of a corpus: numbered, immutable objects."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable

from tasks.adapters.checkpoint.damaged_documents import Damages
from tasks.adapters.checkpoint.json_documents import commit_document, read_document
from tasks.domain.job.job import Job
from tasks.domain.ports import Store
from tasks.domain.shards.layout import promotion, promotions
from tasks.domain.target.collection import target_fingerprint
from tasks.domain.target.promotion import Promotion, is_written

_MOVE = re.compile(r"(?P<alias>[^/]+)/(?P<number>\d{6})\.json")


class Promotions:
    """The history of a job's alias, over all encoders.

    Moves are stored by the address of the alias. A collection can be reached by several addresses, so moves that were recorded
    under another address belong to the history as well if they lead to a collection that exists here now.

    Args:
        store: the checkpoint.
        job: names corpus, target and alias.
        damages: records unreadable documents, which are skipped. Without it, they are skipped silently.
    """

    def __init__(self, store: Store, job: Job, damages: Damages | None = None) -> None:
        self._store, self._corpus = store, job.corpus
        self._damages = damages or Damages(store, job.corpus)
        self._alias = target_fingerprint(job.target, job.target.collection)

    def read(self, *, standing: Iterable[str] = ()) -> list[Promotion]:
        """Return every readable move, in order. `standing`: identities of the collections at the target."""
        here, moves = set(standing) - {""}, self._moves()
        own = moves.pop(self._alias, [])
        others = [history for history in moves.values() if here & {move.ledger for move in history}]
        return sorted((move for history in (own, *others) for move in history), key=lambda move: move.at) if others else own

    def of_encoder(self, fingerprint: str) -> list[Promotion]:
        """Return every move to a collection of an encoder, for any alias and address, sorted by time."""
        moves = [move for history in self._moves().values() for move in history]
        return sorted((move for move in moves if move.fingerprint == fingerprint), key=lambda move: move.at)

    @property
    def damaged(self) -> bool:
        """Whether a move is unreadable: it may be the one that made the current collection live."""
        folder = f"{promotions(self._corpus)}{self._alias}/"
        return any(key.startswith(folder) for key in self._damages.keys)

    def note(self, move: Promotion) -> None:
        """Record a move before it is made; an interrupted move is already recorded."""
        while not is_written(self._read_all(self._alias, numbers := self._numbers()[self._alias]), move):
            number = max(numbers, default=0) + 1
            commit_document(self._store, promotion(self._corpus, self._alias, number), move, damages=self._damages)

    def _moves(self) -> dict[str, list[Promotion]]:
        return {alias: self._read_all(alias, numbers) for alias, numbers in self._numbers().items()}

    def _read_all(self, alias: str, numbers: list[int]) -> list[Promotion]:
        keys = (promotion(self._corpus, alias, number) for number in numbers)
        return [move for key in keys if (move := read_document(self._store, key, Promotion, damages=self._damages))]

    def _numbers(self) -> dict[str, list[int]]:
        """Return the numbers of every alias' moves from a listing: a missing one does not hide later ones."""
        folder, numbers_by_alias = promotions(self._corpus), defaultdict[str, list[int]](list)
        for stored in self._store.list(folder):
            if move := _MOVE.fullmatch(stored.key.removeprefix(folder)):
                numbers_by_alias[move["alias"]].append(int(move["number"]))
        for numbers in numbers_by_alias.values():
            numbers.sort()
        return numbers_by_alias

"""What a rank gives back."""

from __future__ import annotations

import psutil

from tasks.worker.system.memory import give_back

BLOCK, BLOCKS = 100_000, 3_000  # bytes: small enough for glibc to keep what is freed between others


def test_what_is_free_between_what_lives_on_is_given_back() -> None:
    process = psutil.Process()
    blocks = [bytearray(b"x" * BLOCK) for _ in range(BLOCKS)]
    del blocks[::2]
    before = process.memory_info().rss
    give_back()
    given = before - process.memory_info().rss
    assert given > 0.8 * BLOCK * BLOCKS / 2
    assert len(blocks) == BLOCKS / 2

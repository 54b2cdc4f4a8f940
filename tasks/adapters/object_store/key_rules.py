"""What a key may be in any store: the rule that keeps a key inside its store's root."""

from __future__ import annotations

from tasks.domain.errors import Permanent

TEMPORARY = ".kitestring-tmp-"  # how the files begin that a folder store has not finished; never a key
LONGEST_KEY_BYTES = 1024  # bytes, S3's own limit


def checked(key: str) -> str:
    """The key, if it may be used: names joined by '/', none of them empty, '.', '..' or a temporary file's.

    Raises:
        Permanent: it is not; says why.
    """
    fault = _fault(key)
    if fault:
        raise Permanent(f"{key[:200]!r} cannot be a key in a checkpoint store: {fault}")
    return key


def is_key(name: str) -> bool:
    """Whether a name found in a store may be a key; others are not ours."""
    return not _fault(name)


def _fault(key: str) -> str:
    if any(name in ("", ".", "..") for name in key.split("/")):
        return "each name between '/' has to be a name"
    if any(name.startswith(TEMPORARY) for name in key.split("/")):
        return f"{TEMPORARY} is kept for unfinished files"
    if any(character < " " or character == "\x7f" for character in key):
        return "it holds a control character"  # several S3 servers lose them on the way
    try:
        length = len(key.encode())
    except UnicodeEncodeError:
        return "it is not Unicode text"
    return f"it is longer than {LONGEST_KEY_BYTES} bytes" if length > LONGEST_KEY_BYTES else ""

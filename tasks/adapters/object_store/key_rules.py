"""Which keys are valid in any store; the rule keeps a key inside its store's root."""

from __future__ import annotations

from tasks.domain.errors import Permanent

TEMPORARY = ".kitestring-tmp-"  # prefix of a folder store's unfinished files; never part of a key
LONGEST_KEY_BYTES = 1024  # bytes, S3's own limit


def checked(key: str) -> str:
    """Return the key if it is valid: names joined by '/', none of them empty, '.', '..' or a temporary file's.

    Raises:
        Permanent: the key is invalid; says why.
    """
    fault = _fault(key)
    if fault:
        raise Permanent(f"{key[:200]!r} cannot be a key in a checkpoint store: {fault}")
    return key


def is_key(name: str) -> bool:
    """Return whether a name found in a store is a valid key; other files are not Kitestring's."""
    return not _fault(name)


def _fault(key: str) -> str:
    if any(name in ("", ".", "..") for name in key.split("/")):
        return "empty names, '.' and '..' are not allowed between '/'"
    if any(name.startswith(TEMPORARY) for name in key.split("/")):
        return f"{TEMPORARY} is reserved for unfinished files"
    if any(character < " " or character == "\x7f" for character in key):
        return "it holds a control character"  # several S3 servers drop them
    try:
        length = len(key.encode())
    except UnicodeEncodeError:
        return "it is not Unicode text"
    return f"it is longer than {LONGEST_KEY_BYTES} bytes" if length > LONGEST_KEY_BYTES else ""

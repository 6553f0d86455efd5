"""Which ids containerd allows, checked without regular expressions: `start` pays for every import.

The rule is containerd's (`identifiers.Validate`): `^[A-Za-z0-9]+(?:[._-](?:[A-Za-z0-9]+))*$`, at most 76 characters.
So an id is never empty, never a path, and never `..`.
"""

MAX_LENGTH = 76

_SEPARATORS = frozenset("._-")
_LETTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789")


def problem_with(identifier: str) -> str | None:
    """Why `identifier` is not an id of containerd, as one line; None if it is one."""
    if not identifier:
        return "is empty"
    if len(identifier) > MAX_LENGTH:
        return f"is {len(identifier)} characters long (at most {MAX_LENGTH})"
    after_separator = True
    for char in identifier:
        if char in _LETTERS:
            after_separator = False
        elif char not in _SEPARATORS or after_separator:
            return "must be letters and digits, joined by single '.', '_' or '-'"
        else:
            after_separator = True
    return "must end with a letter or digit" if after_separator else None

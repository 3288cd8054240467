"""Regular expressions that people write, matched by RE2: in time that grows with the text alone.

Python's own engine can be sent into a search that takes longer than anybody lives by a pattern as short as `(a+)+$`;
a time limit would make a reward depend on how busy the machine is.
"""

from functools import lru_cache
from typing import Any


@lru_cache(maxsize=64)
def compiled(pattern: str) -> Any:
    """The pattern, ready to search. Raises `ValueError` when it is none."""
    import re2

    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(pattern, options=options)
    except re2.error as error:
        reason = error.args[0].decode() if isinstance(error.args[0], bytes) else str(error)
        raise ValueError(f"must be a regular expression of RE2: {reason}") from error


def check_pattern(pattern: str) -> None:
    """Raise `ValueError` unless the pattern can be used."""
    compiled(pattern)


def is_found(pattern: str, text: str) -> bool:
    # RE2 reads UTF-8, in which half a surrogate pair cannot be written.
    return compiled(pattern).search(text.encode("utf-8", "replace").decode()) is not None

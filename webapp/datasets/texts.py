"""Texts from outside, before they reach the database."""


def is_storable(text: str) -> bool:
    """Whether Postgres can hold the text: it has no NUL, and no half of a surrogate pair."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in text

"""What may name a metric."""

MAX_KEY_LENGTH = 200


def is_usable(key: object) -> bool:
    """Whether a series may have that key: printable text that Postgres can store, of bounded length."""
    return isinstance(key, str) and 0 < len(key) <= MAX_KEY_LENGTH and key.isprintable()

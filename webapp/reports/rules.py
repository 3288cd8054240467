"""The limits of reports."""

from webapp.errors import Invalid

MAX_TITLE = 200
MAX_BODY = 100_000
MAX_BLOCKS = 30
# In one block, or behind one link to a comparison.
MAX_RUNS = 100
MAX_KEYS = 20
MAX_REPORTS = 1000
# Older versions make room.
KEPT_VERSIONS = 200


def clean_title(text: str) -> str:
    """The title on one line. Raises Invalid."""
    title = " ".join(text.split())
    if not 0 < len(title) <= MAX_TITLE or not title.isprintable():
        raise Invalid(
            "The title is not accepted.", fields={"title": [f"must have 1 to {MAX_TITLE} printable characters"]}
        )
    return title


def clean_body(text: str) -> str:
    """The text with lines that end in one way. Raises Invalid."""
    body = text.replace("\r\n", "\n")
    if len(body) > MAX_BODY:
        raise Invalid("The text is too long.", fields={"body": [f"must have at most {MAX_BODY:,} characters"]})
    if "\0" in body:
        raise Invalid("The text is not accepted.", fields={"body": ["must not hold NUL characters"]})
    return body

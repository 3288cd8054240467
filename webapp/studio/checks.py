"""Settings that cannot work, each with the remedy."""

import os
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, register
from django.db import connections

# A setting, the schemes that its URL may have, an example.
URLS = (
    ("DATABASE_URL", {"postgres", "postgresql"}, "postgresql://user:password@host/name"),
    ("BROKER_URL", {"redis", "rediss", "redis+socket"}, "redis://host:6379/0"),
    ("ARTIFACT_URL", {"file", "s3"}, "file:///srv/artifacts or s3://bucket/prefix"),
)

# What pgvector calls itself.
VECTOR = "vector"
STALL_POLICIES = ("wait", "retry", "stop")


@register()
def check_environment(**_: Any) -> list[CheckMessage]:
    """The URLs and numbers that come from the environment."""
    found: list[CheckMessage] = [
        Error(
            f"{name} starts with none of {', '.join(sorted(schemes))}.",
            hint=f"Write it like {example}, or leave it out.",
            id=f"studio.E00{number}",
        )
        for number, (name, schemes, example) in enumerate(URLS, 1)
        if urlsplit(getattr(settings, name)).scheme not in schemes
    ]
    slots = os.environ.get("POLM_SLOTS", "1")
    if not slots.isdigit() or slots == "0":
        hint = "Give the number of runs that this machine works on at once, such as 1."
        found.append(Error(f"POLM_SLOTS is {slots!r}, not a number from 1.", hint=hint, id="studio.E004"))
    if not settings.STALL_SECONDS.isdigit() or settings.STALL_SECONDS == "0":
        hint = "Give the seconds without a sign of life after which a run counts as stalled, such as 120."
        found.append(Error(f"POLM_STALL_SECONDS is {settings.STALL_SECONDS!r}.", hint=hint, id="studio.E005"))
    if settings.STALL_POLICY not in STALL_POLICIES:
        hint = f"Give one of {', '.join(STALL_POLICIES)}."
        found.append(Error(f"POLM_STALL_POLICY is {settings.STALL_POLICY!r}.", hint=hint, id="studio.E006"))
    if settings.EMAIL_USE_TLS and settings.EMAIL_USE_SSL:
        hint = "Set EMAIL_USE_TLS for port 587, EMAIL_USE_SSL for port 465."
        found.append(Error("EMAIL_USE_TLS and EMAIL_USE_SSL exclude each other.", hint=hint, id="studio.E008"))
    if urlsplit(settings.PUBLIC_URL).scheme not in {"http", "https"}:
        hint = "Write it like https://studio.example.org, or leave it out."
        found.append(Error(f"POLM_URL is {settings.PUBLIC_URL!r}, no address.", hint=hint, id="studio.E009"))
    return found


@register(Tags.database)
def check_pgvector(databases: Sequence[str] | None = None, **_: Any) -> list[CheckMessage]:
    """Indexes of documents need pgvector in the database; `migrate` asks before it changes anything."""
    found: list[CheckMessage] = []
    for alias in databases or ():
        with connections[alias].cursor() as cursor:
            cursor.execute("SELECT 1 FROM pg_available_extensions WHERE name = %s", [VECTOR])
            if cursor.fetchone() is None:
                hint = (
                    "Install pgvector where the database runs (the package postgresql-NN-pgvector, or the image "
                    "pgvector/pgvector), or leave DATABASE_URL out: the embedded Postgres has it."
                )
                found.append(Error("Postgres lacks the extension pgvector.", hint=hint, id="studio.E007"))
    return found

"""The studio on a socket, and clients that listen to it."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from django.conf import settings

from tests.support.runs import make_run
from tests.support.served import session_of
from webapp.accounts.access import Actor
from webapp.accounts.models import Team, User
from webapp.accounts.services import token_create
from webapp.runs.models import Run

PATIENCE = 10.0


@dataclass(frozen=True)
class Heard:
    """One event as a client got it; a comment has the name `comment`."""

    name: str
    data: Any
    id: str = ""


@pytest.fixture
def run(transactional_db: None, team: Team) -> Run:
    return make_run(team)


@pytest.fixture
def token(member: User) -> str:
    return token_create(actor=Actor(member), name="test")[1]


@pytest.fixture
def cookie() -> Callable[[User], dict[str, str]]:
    """Makes the headers of a browser in which that user is signed in."""

    def make(user: User) -> dict[str, str]:
        return {"Cookie": f"{settings.SESSION_COOKIE_NAME}={session_of(user).session_key}"}

    return make


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@contextmanager
def listen(url: str, headers: dict[str, str]) -> Iterator[Iterator[Heard]]:
    """An open stream's events as they come. Ends with the stream; httpx.ReadTimeout when nothing comes."""
    with httpx.stream("GET", url, headers=headers, timeout=PATIENCE) as response:
        assert response.status_code == 200, response.read()
        assert response.headers["content-type"] == "text/event-stream"
        events = parse(response.iter_lines())
        assert next(events).name == "retry"
        yield events


def parse(lines: Iterator[str]) -> Iterator[Heard]:
    """The events of a stream's lines, and its comments."""
    event: dict[str, str] = {}
    for line in lines:
        if line:
            name, _, value = line.partition(":")
            event[name or "comment"] = value.strip()
        elif event:
            yield _heard(event)
            event = {}


def _heard(event: dict[str, str]) -> Heard:
    for name in ("comment", "retry"):
        if name in event:
            return Heard(name, event[name])
    return Heard(event.get("event", "message"), json.loads(event["data"]), event.get("id", ""))

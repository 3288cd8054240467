"""Who opens a stream. Streams do not pass Django's middleware, so they find out for themselves."""

from io import BytesIO
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user
from django.contrib.sessions.backends.db import SessionStore
from django.core.handlers.asgi import ASGIRequest

from polm_core.errors import PolmError
from webapp.accounts.access import Actor
from webapp.accounts.selectors import user_for_token


class Unauthenticated(PolmError):
    """Nobody the studio knows."""

    code = "unauthenticated"

    def __init__(self) -> None:
        super().__init__("Sign in, or send a valid token as `Authorization: Bearer <token>`.")


def caller(scope: dict[str, Any], *, tokens: bool) -> Actor:
    """Whose request it is: by bearer token where `tokens` are taken, else by session. Raises Unauthenticated."""
    request: Any = ASGIRequest(scope, BytesIO())
    authorization = request.headers.get("Authorization")
    if tokens and authorization is not None:
        scheme, _, token = authorization.partition(" ")
        user = user_for_token(token.strip()) if scheme.lower() == "bearer" else None
    else:
        request.session = SessionStore(request.COOKIES.get(settings.SESSION_COOKIE_NAME))
        found = get_user(request)
        user = found if found.is_authenticated else None
    if user is None:
        raise Unauthenticated
    return Actor(user)

"""Clients of the studio: a program with a token, a browser with or without a session."""

import json
from typing import Any

from django.test import Client
from django.test.client import ClientHandler

from webapp.accounts.models import User

ROOT = "/api/v1"
# One for all: building the middleware lists every static file, which takes longer than most requests.
_HANDLER = ClientHandler(enforce_csrf_checks=False)


def browser(user: User | None = None, **options: Any) -> Client:
    """A browser with a session of that user, or without any."""
    client = Client(**options)
    client.handler = _HANDLER
    if user is not None:
        client.force_login(user)
    return client


class ApiClient:
    """Calls `/api/v1<path>` with a bearer token, or as a stranger without one.

    `body` is sent as JSON. Multipart: `files` maps a field to an open file or a SimpleUploadedFile, `form` holds the
    other fields. Query parameters may stand in the path or in `query`. Answers are Django's test responses
    (`.status_code`, `.json()`, `.content`).
    """

    def __init__(self, token: str | None = None) -> None:
        self._client = Client(
            headers={"Authorization": f"Bearer {token}"} if token else {}, raise_request_exception=True
        )

    def get(self, path: str, query: dict[str, Any] | None = None, **options: Any) -> Any:
        return self._client.get(ROOT + path, query_params=query, **options)

    def post(
        self,
        path: str,
        body: Any = None,
        *,
        files: dict[str, Any] | None = None,
        form: dict[str, Any] | None = None,
        **options: Any,
    ) -> Any:
        if files is not None or form is not None:
            return self._client.post(ROOT + path, {**(form or {}), **(files or {})}, **options)
        return self._with_body("POST", path, body, **options)

    def put(self, path: str, body: Any = None, **options: Any) -> Any:
        return self._with_body("PUT", path, body, **options)

    def patch(self, path: str, body: Any = None, **options: Any) -> Any:
        return self._with_body("PATCH", path, body, **options)

    def delete(self, path: str, **options: Any) -> Any:
        return self._client.delete(ROOT + path, **options)

    def _with_body(self, verb: str, path: str, body: Any, **options: Any) -> Any:
        data = "" if body is None else json.dumps(body)
        return self._client.generic(verb, ROOT + path, data, content_type="application/json", **options)

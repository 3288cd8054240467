"""A client of the REST API, as a program with a token would use it."""

import json
from typing import Any

from django.test import Client

ROOT = "/api/v1"


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

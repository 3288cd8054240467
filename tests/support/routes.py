"""Every address of the studio, read from the URL configuration and from the API's own description of itself."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from django.urls import URLPattern, URLResolver, get_resolver

from webapp.accounts.access import Access
from webapp.urls import api

API_PREFIX = "api/v1/"


@dataclass(frozen=True)
class Page:
    """A URL pattern outside the API. `route` is as Django writes it: `team/<uuid:pk>/name`."""

    route: str
    name: str
    view: Callable[..., Any]

    @property
    def access(self) -> Access | None:
        return getattr(self.view, "access", None)

    @property
    def parameters(self) -> list[str]:
        return re.findall(r"<(?:\w+:)?(\w+)>", self.route)

    def path(self, values: dict[str, str]) -> str:
        """The address with these values put in for its parameters."""
        return "/" + re.sub(r"<(?:\w+:)?(\w+)>", lambda found: values[found[1]], self.route)


@dataclass(frozen=True)
class Operation:
    """A method and path of the API, without its prefix: `GET /runs/{run_id}`."""

    method: str
    route: str
    public: bool
    takes_body: bool

    @property
    def name(self) -> str:
        return f"{self.method} {self.route}"

    @property
    def parameters(self) -> list[str]:
        return re.findall(r"{(\w+)}", self.route)

    def path(self, values: dict[str, str]) -> str:
        """The path with these values put in for its parameters."""
        return re.sub(r"{(\w+)}", lambda found: values[found[1]], self.route)


def url_patterns() -> list[tuple[str, URLPattern]]:
    """Every pattern with its whole route."""
    return list(_walk(get_resolver().url_patterns, ""))


def pages() -> list[Page]:
    """What is not the API."""
    return [
        Page(route, pattern.name or route, pattern.callback)
        for route, pattern in url_patterns()
        if not route.startswith(API_PREFIX)
    ]


def operations() -> list[Operation]:
    """What the API's OpenAPI description lists."""
    return [
        Operation(
            method=method.upper(),
            route=re.sub(r"{\w+:(\w+)}", r"{\1}", "/" + path.removeprefix(f"/{API_PREFIX}")),
            public="security" not in description,
            takes_body="requestBody" in description,
        )
        for path, methods in api.get_openapi_schema()["paths"].items()
        for method, description in methods.items()
    ]


def _walk(patterns: list[URLPattern | URLResolver], prefix: str) -> Iterator[tuple[str, URLPattern]]:
    for pattern in patterns:
        route = prefix + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            yield from _walk(pattern.url_patterns, route)
        else:
            yield route, pattern

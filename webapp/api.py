"""The REST API: one router per app, one way to authenticate, one shape of error. The contract is docs/API.md."""

import logging
import uuid
from typing import Any

from django.core.exceptions import RequestDataTooBig, SuspiciousOperation
from django.db import InterfaceError, OperationalError, connection
from django.http import HttpRequest, HttpResponse, UnreadablePostError
from django.http.multipartparser import MultiPartParserError
from ninja import NinjaAPI, Status
from ninja.errors import AuthenticationError, HttpError, ValidationError
from ninja.security import APIKeyCookie, HttpBearer

from polm_core import __version__
from polm_core.errors import PolmError
from webapp.accounts.access import Actor
from webapp.accounts.selectors import user_for_token
from webapp.errors import status_of

logger = logging.getLogger(__name__)


class BearerToken(HttpBearer):
    """`Authorization: Bearer <token>`."""

    def authenticate(self, request: Any, token: str) -> Actor | None:
        user = user_for_token(token)
        if user is None:
            return None
        actor = request.actor = Actor(user)
        return actor


class SessionCookie(APIKeyCookie):
    """The browser's own session, with Django's CSRF check on writes: what the pages use."""

    param_name = "sessionid"

    def __call__(self, request: Any) -> Any:
        # Without a session there is nothing to forge: such a caller is told to sign in, not of a CSRF failure.
        return super().__call__(request) if getattr(request, "actor", None) else None

    def authenticate(self, request: Any, key: str | None) -> Actor | None:
        return getattr(request, "actor", None)


api = NinjaAPI(
    title="PoLM Studio",
    version=__version__,
    urls_namespace="api",
    auth=[BearerToken(), SessionCookie(csrf=True)],
    docs_url="/docs",
    openapi_url="/openapi.json",
)


def _answer(request: HttpRequest, status: int, **error: Any) -> HttpResponse:
    body = {"code": "error", "message": "", "fields": {}, "advice": "", **error}
    return api.create_response(request, {"error": body}, status=status)


@api.exception_handler(PolmError)
def _expected(request: HttpRequest, error: PolmError) -> HttpResponse:
    return _answer(request, status_of(error), **error.as_dict())


@api.exception_handler(AuthenticationError)
def _unknown_caller(request: HttpRequest, error: AuthenticationError) -> HttpResponse:
    return _answer(
        request,
        401,
        code="unauthenticated",
        message="Sign in, or send a valid token as `Authorization: Bearer <token>`.",
    )


@api.exception_handler(ValidationError)
def _malformed(request: HttpRequest, error: ValidationError) -> HttpResponse:
    fields: dict[str, list[str]] = {}
    for problem in error.errors:
        # The first part says where the value stood (body, query, file, ...), the second may be the handler's parameter.
        place = [str(part) for part in problem["loc"][1:] if part not in {"form", "payload"}]
        fields.setdefault(".".join(place) or "body", []).append(problem["msg"])
    return _answer(request, 422, code="invalid", message="Some values are not accepted.", fields=fields)


@api.exception_handler(HttpError)
def _refused(request: HttpRequest, error: HttpError) -> HttpResponse:
    return _answer(request, error.status_code, code="malformed", message=str(error))


@api.exception_handler(RequestDataTooBig)
def _too_large(request: HttpRequest, error: RequestDataTooBig) -> HttpResponse:
    return _answer(request, 413, code="too_large", message="The fields of the form are too large.")


@api.exception_handler(SuspiciousOperation)
@api.exception_handler(MultiPartParserError)
@api.exception_handler(UnreadablePostError)
def _unreadable(request: HttpRequest, error: Exception) -> HttpResponse:
    return _answer(request, 400, code="malformed", message=f"The body cannot be read: {error}")


@api.exception_handler(OperationalError)
@api.exception_handler(InterfaceError)
def _no_database(request: HttpRequest, error: Exception) -> HttpResponse:
    logger.warning("The database does not answer: %s", error)
    return _answer(request, 503, code="unavailable", message="The database does not answer.", advice="Try again soon.")


@api.exception_handler(Exception)
def _bug(request: HttpRequest, error: Exception) -> HttpResponse:
    if "NUL (0x00)" in str(error):  # what Postgres's driver says of text it cannot store
        return _answer(request, 422, code="invalid", message="Text must not hold NUL characters.")
    reference = uuid.uuid4().hex[:8]
    logger.exception("API error %s at %s", reference, request.path)
    return _answer(request, 500, code="internal", message=f"Something broke on our side (reference {reference}).")


@api.get("/health", auth=None, tags=["studio"], response={200: dict[str, Any], 503: dict[str, Any]})
def health(request: HttpRequest) -> Status[dict[str, Any]]:
    """Whether the parts answer; 503 when the database does not. Needs no login and tells nothing else."""
    from webapp.runs.selectors import workers_alive
    from webapp.tasks import broker_answers

    try:
        workers, database = workers_alive(), "ok"
    except (OperationalError, InterfaceError):
        connection.close()
        workers, database = 0, "down"
    found = {
        "status": database,
        "version": __version__,
        "database": database,
        "broker": "ok" if broker_answers() else "down",
        "workers": workers,
    }
    return Status(200 if database == "ok" else 503, found)


def mount() -> NinjaAPI:
    """Add every app's router; called once by the URL configuration."""
    from webapp.alerts.api import router as alerts
    from webapp.datasets.api import router as datasets
    from webapp.datasets.card_api import router as cards
    from webapp.datasets.choosing_api import router as choosing
    from webapp.datasets.diff_api import router as diffs
    from webapp.evaluations.api import router as evaluations
    from webapp.live.api import router as live
    from webapp.metrics.api import router as metrics
    from webapp.playground.api import router as playground
    from webapp.recipes.api import router as recipes
    from webapp.registry.api import router as registry
    from webapp.registry.exports_api import router as exports
    from webapp.reports.api import router as reports
    from webapp.retrieval.api import router as retrieval
    from webapp.runs.answers_api import router as answers
    from webapp.runs.api import router as runs
    from webapp.runs.project_api import router as projects
    from webapp.runs.queue_api import router as queue
    from webapp.runs.view_api import router as run_views
    from webapp.sweeps.api import router as sweeps
    from webapp.workbench.api import router as workbench

    for router in (
        choosing,  # first: its `mix` would else be taken for a dataset
        datasets,
        cards,
        diffs,
        registry,
        exports,
        runs,
        queue,
        answers,
        projects,
        run_views,
        metrics,
        recipes,
        sweeps,
        live,
        retrieval,
        alerts,
        playground,
        workbench,
        evaluations,
        reports,
    ):
        api.add_router("", router)
    return api

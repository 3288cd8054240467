"""What is shown when something goes wrong: the same words on a page, in a fragment and in the API."""

import logging
import uuid
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.template.loader import render_to_string

from polm_core.errors import PolmError
from webapp.errors import status_of

logger = logging.getLogger(__name__)

_TITLES = {
    400: "This request makes no sense",
    403: "This is not for you to see or do",
    404: "Not found",
    409: "Not possible right now",
    413: "Too large",
    422: "Not accepted",
    500: "Something broke on our side",
    503: "A part of the studio does not answer",
}


API = "/api/"
# What errors that Django finds itself are called in the API.
_CODES = {400: "malformed", 403: "forbidden", 404: "not_found", 405: "method_not_allowed"}


class ErrorPageMiddleware:
    """Shows expected errors of a view as a page, and as a message in the corner to htmx.

    Below the API's address every error has the API's shape, also where no operation was found that could give it.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        if response.status_code == 405 and request.path.startswith(API):
            allowed = response["Allow"]
            response = error_page(request, 405, f"This address does not take {request.method}.", f"Use {allowed}.")
            response["Allow"] = allowed
        return response

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        if isinstance(exception, PolmError):
            return error_page(request, status_of(exception), exception.message, exception.advice)
        return None


def error_page(request: HttpRequest, status: int, message: str, advice: str = "") -> HttpResponse:
    """An error as a whole page, as a toast when a fragment was asked for, or as JSON to a caller of the API."""
    if request.path.startswith(API):
        error = {"code": _CODES.get(status, "error"), "message": message, "fields": {}, "advice": advice}
        return JsonResponse({"error": error}, status=status)
    if getattr(request, "htmx", False):
        toast = {"tone": "error", "text": message, "advice": advice}
        response = render(request, "components/toast.html", toast, status=status)
        response["HX-Retarget"] = "#toasts"
        response["HX-Reswap"] = "beforeend"
        return response
    title = _TITLES.get(status) or HTTPStatus(status).phrase
    context = {"status": status, "title": title, "message": message, "advice": advice}
    return render(request, "error.html", context, status=status)


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    return error_page(request, 400, "The server could not read what the browser sent.")


def permission_denied(request: HttpRequest, exception: Exception) -> HttpResponse:
    said = str(exception) if isinstance(exception, PermissionDenied) else ""
    return error_page(request, 403, said or "Your role does not allow this.")


def page_not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    return error_page(request, 404, "There is nothing at this address, or you may not see it.")


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    return error_page(
        request, 403, "The form is too old, or came from another site.", "Reload the page and send it again."
    )


def server_error(request: HttpRequest) -> HttpResponse:
    """A bug. The page stands without session or database, which may be what broke; its reference finds the log."""
    reference = uuid.uuid4().hex[:8]
    logger.error("Error %s at %s %s", reference, request.method, request.path, exc_info=True)
    context: dict[str, Any] = {
        "status": 500,
        "title": _TITLES[500],
        "message": f"The log has the details under the reference {reference}.",
        "advice": "Try again; if it happens again, tell whoever runs this studio the reference.",
    }
    return HttpResponse(render_to_string("error.html", context), status=500)

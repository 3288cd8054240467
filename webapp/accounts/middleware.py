"""The gate in front of every page: a view without a stated access is refused."""

import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import ImproperlyConfigured, PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django_htmx.http import HttpResponseClientRedirect
from django_htmx.middleware import HtmxDetails

from webapp.accounts.access import Access, Actor
from webapp.accounts.models import User

SEEN_GRAIN = timedelta(minutes=1)


class StudioRequest(HttpRequest):
    """A request that passed the gate of a view that needs an account."""

    actor: Actor
    htmx: HtmxDetails


class DenyByDefaultMiddleware:
    """Sets `request.actor` (None for strangers) and checks the view's access before it runs.

    API views authenticate themselves (bearer token or session) and are marked so by the API's own gate.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_view(
        self, request: Any, view: Callable[..., HttpResponse], args: Any, kwargs: Any
    ) -> HttpResponse | None:
        access: Access | None = getattr(view, "access", None)
        if access is None:
            raise ImproperlyConfigured(f"The view {view!r} does not say who may call it.")
        request.actor = None
        if request.user.is_authenticated:
            request.actor = Actor(request.user, _chosen_team(request))
            _note_visit(request.user)
        if access.public:
            return None
        if request.actor is None:
            return _to_sign_in(request)
        if access.role is not None and not request.actor.holds(access.role):
            # Not our own Forbidden: what is raised before the view reaches only Django's own error handling.
            raise PermissionDenied(
                f"This needs the role {access.role.label.lower()}. Ask an admin of your team for it."
            )
        return None


def _chosen_team(request: HttpRequest) -> uuid.UUID | None:
    try:
        return uuid.UUID(request.session.get("team", ""))
    except (ValueError, TypeError, AttributeError):
        return None


def _note_visit(user: User) -> None:
    now = timezone.now()
    if user.last_seen_at is None or user.last_seen_at < now - SEEN_GRAIN:
        User.objects.filter(pk=user.pk).update(last_seen_at=now)


def _to_sign_in(request: Any) -> HttpResponse:
    """The sign-in page; a fragment's request takes the whole page there, and back to where it was."""
    if not request.htmx:
        return redirect_to_login(request.get_full_path(), settings.LOGIN_URL)
    target = redirect_to_login(request.htmx.current_url_abs_path or "/", settings.LOGIN_URL)
    answer = HttpResponseClientRedirect(target.url)
    answer.status_code = 401
    return answer

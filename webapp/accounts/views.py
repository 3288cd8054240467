"""Signing in and out, one's own account, and the team."""

import uuid
from functools import partial
from typing import Any, cast

from django.contrib import messages
from django.contrib.auth import login, logout, update_session_auth_hash
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_GET, require_http_methods, require_POST, require_safe

from webapp.accounts import selectors, services
from webapp.accounts.access import Actor, public, requires, signed_in
from webapp.accounts.forms import (
    InvitationForm,
    JoinForm,
    JudgeEndpointForm,
    NameForm,
    NewTeamForm,
    PasswordForm,
    RoleForm,
    SecretForm,
    SignInForm,
    TeamChoiceForm,
    TeamNameForm,
    TokenForm,
    WelcomeForm,
)
from webapp.accounts.judges import JUDGE_ENDPOINT, judge_endpoint_set
from webapp.accounts.middleware import StudioRequest
from webapp.accounts.models import Invitation, Role, Team, User
from webapp.errors import NotFound

# In the session of somebody who came by a sign-in link: a new password may be set without the old one, once.
MAY_SET_PASSWORD = "may_set_password"  # noqa: S105 - the name of a session entry
RECENT_EVENTS = 10

# --- signing in and out -----------------------------------------------------------------------------------------------


@public
@never_cache
@sensitive_post_parameters("password")
@require_http_methods(["GET", "HEAD", "POST"])
def sign_in(request: HttpRequest) -> HttpResponse:
    """Ask for username and password; then on to where the person was going."""
    if request.user.is_authenticated:
        return redirect(_next(request))
    form = SignInForm(request.POST or None)
    status = 200
    if request.method == "POST":
        try:
            user = form.attempt(partial(services.password_check, address=request.META.get("REMOTE_ADDR", "")))
            status = 422
        except services.TooManyAttempts as refusal:
            form.add_problems(refusal)
            user, status = None, 429
        if user is not None:
            login(request, user)
            return redirect(_next(request))
    return render(request, "accounts/sign_in.html", {"form": form, "next": _next(request)}, status=status)


@signed_in
@require_POST
def sign_out(request: StudioRequest) -> HttpResponse:
    logout(request)
    return redirect("sign-in")


@public
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def sign_in_link(request: HttpRequest, token: str) -> HttpResponse:
    """A one-time link. Only the button spends it, so that a chat program's preview of the link does not."""
    if request.method != "POST":
        return render(request, "accounts/sign_in_link.html")
    login(request, services.sign_in_link_use(token=token))
    request.session[MAY_SET_PASSWORD] = True
    return redirect("welcome")


@signed_in
@never_cache
@sensitive_post_parameters("password")
@require_http_methods(["GET", "HEAD", "POST"])
def welcome(request: StudioRequest) -> HttpResponse:
    """Name and password, for somebody who has just come by a sign-in link."""
    user = request.actor.user
    if user.has_usable_password() and not request.session.get(MAY_SET_PASSWORD):
        return redirect("account")
    form = WelcomeForm(request.POST or None, initial={"full_name": user.full_name})
    if request.method == "POST" and form.attempt(partial(_introduce, request)) is not None:
        request.session.pop(MAY_SET_PASSWORD, None)
        return redirect("home")
    return render(request, "accounts/welcome.html", {"form": form}, status=422 if form.errors else 200)


def _introduce(request: StudioRequest, *, full_name: str, password: str) -> User:
    user = services.password_set(actor=request.actor, password=password)
    services.user_rename(actor=request.actor, full_name=full_name)
    update_session_auth_hash(request, user)
    return user


@public
@never_cache
@sensitive_post_parameters("password")
@require_http_methods(["GET", "HEAD", "POST"])
def join(request: HttpRequest, token: str) -> HttpResponse:
    """An invitation: accepted with the account at hand, or with a new one."""
    invitation = selectors.open_invitation(token)
    actor = cast(Actor | None, request.actor)  # type: ignore[attr-defined]
    form = JoinForm(request.POST or None) if actor is None else None
    if request.method == "POST":
        if form is None:
            services.invitation_accept(actor=cast(Actor, actor), token=token)
        elif user := form.attempt(partial(services.invitation_join, token=token)):
            login(request, user)
        if form is None or not form.errors:
            request.session["team"] = str(invitation.team_id)
            messages.success(request, f"Welcome to {invitation.team}.")
            return redirect("home")
    member = actor is not None and actor.holds(Role.VIEWER, invitation.team_id)
    context = {"invitation": invitation, "form": form, "member": member}
    return render(request, "accounts/join.html", context, status=422 if form and form.errors else 200)


def _next(request: HttpRequest) -> str:
    """Where to go afterwards: an address of this site only."""
    target = request.POST.get("next") or request.GET.get("next") or ""
    allowed = url_has_allowed_host_and_scheme(target, {request.get_host()}, require_https=request.is_secure())
    return target if allowed else reverse("home")


# --- one's own account ------------------------------------------------------------------------------------------------


@signed_in
@require_safe
def account(request: StudioRequest) -> HttpResponse:
    return _account_page(request)


@signed_in
@require_POST
def account_name(request: StudioRequest) -> HttpResponse:
    form = NameForm(request.POST)
    if not form.attempt(partial(services.user_rename, actor=request.actor)):
        return _account_page(request, name_form=form, status=422)
    messages.success(request, "Saved.")
    return redirect("account")


@signed_in
@sensitive_post_parameters("current", "password")
@require_POST
def account_password(request: StudioRequest) -> HttpResponse:
    form = PasswordForm(request.POST, user=request.actor.user)
    if not form.attempt(partial(_change_password, request)):
        return _account_page(request, password_form=form, status=422)
    messages.success(request, "Your password is changed. Other sessions of yours have ended.")
    return redirect("account")


def _change_password(request: StudioRequest, *, password: str, current: str = "") -> User:
    user = services.password_set(actor=request.actor, password=password)
    update_session_auth_hash(request, user)
    return user


@signed_in
@never_cache
@require_POST
def token_new(request: StudioRequest) -> HttpResponse:
    """Make a token and show it, this once."""
    form = TokenForm(request.POST)
    made = form.attempt(partial(services.token_create, actor=request.actor))
    if made is None:
        return _account_page(request, token_form=form, status=422)
    return _account_page(request, fresh_token=made[1])


@signed_in
@require_POST
def token_revoke(request: StudioRequest, pk: uuid.UUID) -> HttpResponse:
    token = services.token_revoke(actor=request.actor, token_id=pk)
    messages.success(request, f"The token {token.name} is revoked.")
    return redirect("account")


def _account_page(request: StudioRequest, *, status: int = 200, **given: Any) -> HttpResponse:
    user = request.actor.user
    context = {
        "name_form": NameForm(initial={"full_name": user.full_name, "email": user.email}),
        "password_form": PasswordForm(user=user),
        "token_form": TokenForm(),
        "tokens": selectors.user_tokens(user),
        **given,
    }
    return render(request, "accounts/account.html", context, status=status)


# --- the team ---------------------------------------------------------------------------------------------------------


@signed_in
@require_safe
def team(request: StudioRequest) -> HttpResponse:
    """The present team; for somebody without one, how to get into one."""
    return _team_page(request, request.actor.team)


@signed_in
@require_POST
def team_new(request: StudioRequest) -> HttpResponse:
    form = NewTeamForm(request.POST)
    made = form.attempt(partial(services.team_create, actor=request.actor))
    if made is None:
        return _team_page(request, request.actor.team, new_form=form, status=422)
    request.session["team"] = str(made.pk)
    messages.success(request, f"The team {made} is there. Invite people to it.")
    return redirect("team")


@signed_in
@require_POST
def team_switch(request: StudioRequest) -> HttpResponse:
    """Show another of one's teams from now on."""
    form = TeamChoiceForm(request.POST)
    if not form.is_valid():
        raise NotFound("There is no such team.")
    chosen = request.actor.get(Team, form.cleaned_data["team"], team="pk")
    request.session["team"] = str(chosen.pk)
    return redirect(_next(request))


@requires(Role.ADMIN)
@require_POST
def team_name(request: StudioRequest, pk: uuid.UUID) -> HttpResponse:
    team = request.actor.get(Team, pk, Role.ADMIN, team="pk")
    form = TeamNameForm(request.POST)
    if not form.attempt(partial(services.team_rename, actor=request.actor, team=team)):
        return _team_page(request, team, name_form=form, status=422)
    messages.success(request, "The team's name is saved.")
    return redirect("team")


@requires(Role.ADMIN)
@require_GET
def team_audit(request: StudioRequest, pk: uuid.UUID) -> HttpResponse:
    team = request.actor.get(Team, pk, Role.ADMIN, team="pk")
    events, cursor = selectors.audit_page(team, cursor=request.GET.get("cursor"))
    return render(request, "accounts/audit.html", {"team": team, "events": events, "cursor": cursor})


@requires(Role.ADMIN)
@never_cache
@require_POST
def invitation_new(request: StudioRequest, pk: uuid.UUID) -> HttpResponse:
    """Make an invitation and show its link, this once."""
    team = request.actor.get(Team, pk, Role.ADMIN, team="pk")
    form = InvitationForm(request.POST)
    made = form.attempt(partial(services.invitation_create, actor=request.actor, team=team))
    if made is None:
        return _team_page(request, team, invitation_form=form, status=422)
    link = request.build_absolute_uri(reverse("join", args=[made[1]]))
    return _team_page(request, team, fresh_link=link, fresh_invitation=made[0])


@requires(Role.ADMIN)
@require_POST
def invitation_revoke(request: StudioRequest, pk: uuid.UUID) -> HttpResponse:
    invitation = request.actor.get(Invitation, pk, Role.ADMIN)
    services.invitation_revoke(actor=request.actor, invitation=invitation)
    messages.success(request, "The invitation is revoked.")
    return redirect("team")


@requires(Role.ADMIN)
@require_POST
def member_role(request: StudioRequest, pk: uuid.UUID, user: uuid.UUID) -> HttpResponse:
    team = request.actor.get(Team, pk, Role.ADMIN, team="pk")
    form = RoleForm(request.POST)
    changed = form.attempt(partial(services.membership_change_role, actor=request.actor, team=team, user_id=user))
    if changed is None:
        return _team_page(request, team, role_form=form, status=422)
    messages.success(request, f"{changed.user} is now {changed.get_role_display().lower()}.")
    return redirect("team")


@requires(Role.VIEWER)
@require_POST
def member_remove(request: StudioRequest, pk: uuid.UUID, user: uuid.UUID) -> HttpResponse:
    """Remove somebody, or leave the team oneself."""
    team = request.actor.get(Team, pk, team="pk")
    removed = services.membership_remove(actor=request.actor, team=team, user_id=user)
    messages.success(request, f"{removed.user} is no longer in {team}.")
    return redirect("team")


@requires(Role.ADMIN)
@sensitive_post_parameters("value")
@require_POST
def hub_token(request: StudioRequest, pk: uuid.UUID) -> HttpResponse:
    team = request.actor.get(Team, pk, Role.ADMIN, team="pk")
    form = SecretForm(request.POST)
    keep = partial(services.secret_set, actor=request.actor, team=team, name=services.HUB_TOKEN)
    if not form.attempt(keep):
        return _team_page(request, team, secret_form=form, status=422)
    messages.success(request, "The hub token is kept.")
    return redirect("team")


@requires(Role.ADMIN)
@require_POST
def hub_token_delete(request: StudioRequest, pk: uuid.UUID) -> HttpResponse:
    team = request.actor.get(Team, pk, Role.ADMIN, team="pk")
    services.secret_delete(actor=request.actor, team=team, name=services.HUB_TOKEN)
    messages.success(request, "The hub token is removed.")
    return redirect("team")


@requires(Role.ADMIN)
@sensitive_post_parameters("url", "key")
@require_POST
def judge_endpoint(request: StudioRequest, pk: uuid.UUID) -> HttpResponse:
    team = request.actor.get(Team, pk, Role.ADMIN, team="pk")
    form = JudgeEndpointForm(request.POST)
    if not form.attempt(partial(judge_endpoint_set, actor=request.actor, team=team)):
        return _team_page(request, team, judge_form=form, status=422)
    messages.success(request, "The judge's endpoint is kept.")
    return redirect("team")


@requires(Role.ADMIN)
@require_POST
def judge_endpoint_delete(request: StudioRequest, pk: uuid.UUID) -> HttpResponse:
    team = request.actor.get(Team, pk, Role.ADMIN, team="pk")
    services.secret_delete(actor=request.actor, team=team, name=JUDGE_ENDPOINT)
    messages.success(request, "The judge's endpoint is removed.")
    return redirect("team")


def _team_page(request: StudioRequest, team: Team | None, *, status: int = 200, **given: Any) -> HttpResponse:
    if team is None:
        context = {"new_form": NewTeamForm(), **given}
        return render(request, "accounts/no_team.html", context, status=status)
    is_admin = request.actor.holds(Role.ADMIN, team.pk)
    context = {
        "team": team,
        "is_admin": is_admin,
        "roles": Role.choices,
        "members": selectors.members(team),
        "new_form": NewTeamForm(),
        **(_admin_context(team) if is_admin else {}),
        **given,
    }
    return render(request, "accounts/team.html", context, status=status)


def _admin_context(team: Team) -> dict[str, Any]:
    return {
        "name_form": TeamNameForm(initial={"name": team.name}),
        "invitation_form": InvitationForm(),
        "invitations": selectors.open_invitations(team),
        "tokens": selectors.team_tokens(team),
        "secret_form": SecretForm(),
        "secret_set_at": selectors.secret_set_at(team, services.HUB_TOKEN),
        "judge_form": JudgeEndpointForm(),
        "judge_set_at": selectors.secret_set_at(team, JUDGE_ENDPOINT),
        "events": selectors.audit_page(team, RECENT_EVENTS)[0],
    }

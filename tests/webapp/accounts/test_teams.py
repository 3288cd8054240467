"""Teams, roles and invitations."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connection
from django.utils import timezone

from tests.support.factories import PASSWORD, make_team, make_user
from webapp.accounts import selectors, services
from webapp.accounts.access import Actor
from webapp.accounts.models import AuditEvent, Invitation, Membership, Role, Team, User
from webapp.errors import Conflict, Forbidden, Invalid, NotFound


def _role(team: Team, user: User) -> str | None:
    return Membership.objects.filter(team=team, user=user).values_list("role", flat=True).first()


def test_who_creates_a_team_is_its_admin(loner: User) -> None:
    team = services.team_create(actor=Actor(loner), name=" Très bien ")
    assert (team.name, team.slug) == ("Très bien", "tres-bien")
    assert _role(team, loner) == Role.ADMIN
    assert AuditEvent.objects.get(team=team).verb == "team.create"


def test_teams_of_the_same_name_differ_in_slug(loner: User) -> None:
    names = ["Red", "Red", "红队", "红队"]
    slugs = {services.team_create(actor=Actor(loner), name=name).slug for name in names}
    assert len(slugs) == 4


@pytest.mark.parametrize("name", ["", "   ", "x" * 101])
def test_a_team_needs_a_name_that_fits(loner: User, name: str) -> None:
    with pytest.raises(Invalid) as refusal:
        services.team_create(actor=Actor(loner), name=name)
    assert refusal.value.fields["name"]
    assert not Team.objects.exists()


def test_admins_rename_the_team_and_nobody_else(team: Team, admin: User, member: User, outsider: User) -> None:
    services.team_rename(actor=Actor(admin), team=team, name="Crimson")
    assert Team.objects.get(pk=team.pk).name == "Crimson"
    with pytest.raises(Forbidden):
        services.team_rename(actor=Actor(member), team=team, name="Pink")
    with pytest.raises(NotFound):
        services.team_rename(actor=Actor(outsider), team=team, name="Pink")


def test_admins_change_roles(team: Team, admin: User, viewer: User) -> None:
    services.membership_change_role(actor=Actor(admin), team=team, user_id=viewer.pk, role=Role.MEMBER)
    assert _role(team, viewer) == Role.MEMBER
    event = AuditEvent.objects.get(verb="membership.change_role")
    assert event.detail == {"user": "vera", "from": "viewer", "to": "member"}
    assert (event.actor, event.target_id) == (admin, str(viewer.pk))


def test_others_change_no_roles(team: Team, member: User, viewer: User, outsider: User) -> None:
    for person, refusal in ((member, Forbidden), (viewer, Forbidden), (outsider, NotFound)):
        with pytest.raises(refusal):
            services.membership_change_role(actor=Actor(person), team=team, user_id=person.pk, role=Role.ADMIN)
        with pytest.raises(refusal):
            services.membership_remove(actor=Actor(person), team=team, user_id=_somebody_else(team, person).pk)


def _somebody_else(team: Team, person: User) -> User:
    return User.objects.filter(memberships__team=team).exclude(pk=person.pk)[0]


def test_somebody_who_is_no_member_is_not_found(team: Team, admin: User, outsider: User) -> None:
    with pytest.raises(NotFound):
        services.membership_change_role(actor=Actor(admin), team=team, user_id=outsider.pk, role=Role.MEMBER)
    with pytest.raises(NotFound):
        services.membership_remove(actor=Actor(admin), team=team, user_id=outsider.pk)


def test_the_last_admin_stays(team: Team, admin: User, member: User) -> None:
    with pytest.raises(Conflict, match="last admin"):
        services.membership_change_role(actor=Actor(admin), team=team, user_id=admin.pk, role=Role.MEMBER)
    with pytest.raises(Conflict, match="last admin"):
        services.membership_remove(actor=Actor(admin), team=team, user_id=admin.pk)
    services.membership_change_role(actor=Actor(admin), team=team, user_id=member.pk, role=Role.ADMIN)
    services.membership_remove(actor=Actor(admin), team=team, user_id=admin.pk)
    assert _role(team, admin) is None


def test_an_inactive_admin_does_not_count_as_the_last_one(team: Team, admin: User) -> None:
    retired = make_user("retired", team, Role.ADMIN)
    User.objects.filter(pk=retired.pk).update(is_active=False)
    with pytest.raises(Conflict):
        services.membership_remove(actor=Actor(admin), team=team, user_id=admin.pk)


@pytest.mark.django_db(transaction=True)
def test_two_admins_leaving_at_once_leave_one_behind() -> None:
    team = make_team()
    people = [make_user(name, team, Role.ADMIN) for name in ("ada", "bob")]

    def leave(user: User) -> bool:
        try:
            services.membership_remove(actor=Actor(user), team=team, user_id=user.pk)
        except Conflict:
            return False
        finally:
            connection.close()
        return True

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(leave, people)) == [False, True]
    assert Membership.objects.filter(team=team, role=Role.ADMIN).count() == 1


def test_anybody_may_leave(team: Team, admin: User, viewer: User) -> None:
    services.membership_remove(actor=Actor(viewer), team=team, user_id=viewer.pk)
    assert _role(team, viewer) is None


def _invite(team: Team, admin: User, role: Role = Role.MEMBER) -> str:
    return services.invitation_create(actor=Actor(admin), team=team, role=role, note="for Kay")[1]


def test_an_invitation_lets_one_person_in(team: Team, admin: User, loner: User, outsider: User) -> None:
    token = _invite(team, admin, Role.VIEWER)
    assert token not in str(Invitation.objects.values())
    assert [i.note for i in selectors.open_invitations(team)] == ["for Kay"]
    services.invitation_accept(actor=Actor(loner), token=token)
    assert _role(team, loner) == Role.VIEWER
    with pytest.raises(NotFound):
        services.invitation_accept(actor=Actor(outsider), token=token)
    assert selectors.open_invitations(team) == []
    verbs = AuditEvent.objects.filter(team=team).order_by("pk").values_list("verb", flat=True)
    assert list(verbs) == ["invitation.create", "invitation.accept"]


def test_a_member_does_not_use_the_invitation_up(team: Team, admin: User, member: User, loner: User) -> None:
    token = _invite(team, admin, Role.ADMIN)
    with pytest.raises(Conflict, match="already"):
        services.invitation_accept(actor=Actor(member), token=token)
    assert _role(team, member) == Role.MEMBER
    services.invitation_accept(actor=Actor(loner), token=token)


def test_an_invitation_ends_by_time_and_by_revocation(team: Team, admin: User, loner: User) -> None:
    old, revoked = _invite(team, admin), _invite(team, admin)
    newest, oldest = selectors.open_invitations(team)
    Invitation.objects.filter(pk=oldest.pk).update(expires_at=timezone.now())
    services.invitation_revoke(actor=Actor(admin), invitation=newest)
    for token in (old, revoked, "nonsense"):
        with pytest.raises(NotFound):
            selectors.open_invitation(token)
        with pytest.raises(NotFound):
            services.invitation_accept(actor=Actor(loner), token=token)
    with pytest.raises(Conflict):
        services.invitation_revoke(actor=Actor(admin), invitation=newest)


def test_only_admins_invite_and_revoke(team: Team, admin: User, member: User, outsider: User) -> None:
    _invite(team, admin)
    (invitation,) = selectors.open_invitations(team)
    for person, refusal in ((member, Forbidden), (outsider, NotFound)):
        with pytest.raises(refusal):
            _invite(team, person)
        with pytest.raises(refusal):
            services.invitation_revoke(actor=Actor(person), invitation=invitation)


def test_who_loses_the_admin_role_cannot_return_by_an_invitation_kept_back(team: Team, admin: User) -> None:
    rogue = make_user("rogue", team, Role.ADMIN)
    kept = _invite(team, rogue, Role.ADMIN)
    services.membership_remove(actor=Actor(admin), team=team, user_id=rogue.pk)
    with pytest.raises(NotFound):
        services.invitation_accept(actor=Actor(rogue), token=kept)


def test_joining_with_a_new_account_is_all_or_nothing(team: Team, admin: User) -> None:
    token = _invite(team, admin)
    with pytest.raises(Invalid):
        services.invitation_join(token=token, username="ada", password=PASSWORD)
    with pytest.raises(Invalid):
        services.invitation_join(token=token, username="kay", password="kay")
    assert not User.objects.filter(username="kay").exists()
    kay = services.invitation_join(token=token, username="kay", password=PASSWORD, full_name="Kay")
    assert _role(team, kay) == Role.MEMBER
    with pytest.raises(NotFound):
        services.invitation_join(token=token, username="eve", password=PASSWORD)
    assert not User.objects.filter(username="eve").exists()


@pytest.mark.django_db(transaction=True)
def test_two_people_race_for_one_invitation() -> None:
    team = make_team()
    token = _invite(team, make_user("ada", team, Role.ADMIN))
    people = [make_user(f"racer{number}") for number in range(4)]

    def accept(user: User) -> bool:
        try:
            services.invitation_accept(actor=Actor(user), token=token)
        except NotFound:
            return False
        finally:
            connection.close()
        return True

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(accept, people)) == 1
    assert team.memberships.count() == 2


def test_the_first_admin_is_made_once_and_promoted_when_needed(db: None) -> None:
    user = services.admin_ensure(username="Root")
    assert services.admin_ensure(username="root") == user == selectors.first_admin()
    team = services.team_ensure_starter()
    Membership.objects.update(role=Role.VIEWER)
    services.admin_ensure(username="root")
    assert _role(team, user) == Role.ADMIN
    assert Team.objects.count() == User.objects.count() == 1

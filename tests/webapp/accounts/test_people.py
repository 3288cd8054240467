"""Accounts, passwords and one-time links."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.db import IntegrityError, connection
from django.utils import timezone

from tests.support.factories import PASSWORD, make_user
from webapp.accounts import services
from webapp.accounts.access import Actor
from webapp.accounts.models import AuditEvent, SignInAttempt, SignInLink, User
from webapp.errors import Invalid, NotFound

ADDRESS = "10.0.0.7"


def test_usernames_are_one_whatever_their_capitals(db: None) -> None:
    user = services.user_create(username=" Grace ", password=PASSWORD, full_name="Grace Hopper")
    assert user.username == "grace"
    assert User.objects.get_by_natural_key("GRACE") == user
    with pytest.raises(Invalid) as refusal:
        services.user_create(username="gracE", password=PASSWORD)
    assert "username" in refusal.value.fields


def test_the_database_itself_refuses_capitals(db: None) -> None:
    with pytest.raises(IntegrityError):
        User.objects.create(username="Grace")


@pytest.mark.parametrize("name", ["", "two words", "-dash", "tab\there", "line\nbreak", "<b>", "x" * 151, "é"])
def test_a_username_out_of_the_rules_is_refused_with_the_rule(db: None, name: str) -> None:
    with pytest.raises(Invalid) as refusal:
        services.user_create(username=name, password=PASSWORD)
    assert refusal.value.fields["username"]
    assert not User.objects.exists()


@pytest.mark.parametrize("password", ["short", "password123456", "grace-hopper"])
def test_a_weak_password_makes_no_account(db: None, password: str) -> None:
    with pytest.raises(Invalid) as refusal:
        services.user_create(username="grace-hopper", password=password)
    assert refusal.value.fields["password"]
    assert not User.objects.exists()


def test_an_account_without_password_cannot_be_entered_by_one(db: None) -> None:
    services.user_create(username="grace")
    for guess in ("", "None", "grace"):
        with pytest.raises(Invalid):
            services.password_check(username="grace", password=guess, address=ADDRESS)


def test_setting_a_password_checks_and_records_it(db: None) -> None:
    user = services.user_create(username="grace")
    with pytest.raises(Invalid):
        services.password_set(actor=Actor(user), password="grace")
    services.password_set(actor=Actor(user), password=PASSWORD)
    assert services.password_check(username="Grace", password=PASSWORD, address=ADDRESS) == user
    assert AuditEvent.objects.get(verb="password.set").actor == user


def test_an_inactive_account_is_closed(db: None) -> None:
    user = make_user("grace")
    User.objects.filter(pk=user.pk).update(is_active=False)
    with pytest.raises(Invalid):
        services.password_check(username="grace", password=PASSWORD, address=ADDRESS)


def _fail(times: int, username: str = "grace", address: str = ADDRESS) -> None:
    for _ in range(times):
        with pytest.raises(Invalid, match="not right"):
            services.password_check(username=username, password="wrong", address=address)


def test_ten_failures_close_the_door_for_this_name_and_address_only(db: None) -> None:
    make_user("grace")
    make_user("linus")
    _fail(10)
    with pytest.raises(services.TooManyAttempts, match="15 min"):
        services.password_check(username="GRACE", password=PASSWORD, address=ADDRESS)
    assert services.password_check(username="grace", password=PASSWORD, address="10.0.0.8")
    assert services.password_check(username="linus", password=PASSWORD, address=ADDRESS)


def test_the_door_opens_again_and_old_failures_are_forgotten(db: None) -> None:
    make_user("grace")
    _fail(10)
    SignInAttempt.objects.update(at=timezone.now() - services.ATTEMPTS_WINDOW - timedelta(seconds=1))
    assert services.password_check(username="grace", password=PASSWORD, address=ADDRESS)
    assert not SignInAttempt.objects.exists()


def test_success_clears_the_failures_before_it(db: None) -> None:
    make_user("grace")
    _fail(9)
    services.password_check(username="grace", password=PASSWORD, address=ADDRESS)
    _fail(9)
    assert services.password_check(username="grace", password=PASSWORD, address=ADDRESS)


def test_attempts_hold_no_name_and_no_password(db: None) -> None:
    _fail(1, username="my-secret-typed-in-the-wrong-box")
    assert SignInAttempt.objects.get().key != "my-secret-typed-in-the-wrong-box"
    assert len(SignInAttempt.objects.get().key) == 64


@pytest.mark.django_db(transaction=True)
def test_parallel_guesses_count_each() -> None:
    make_user("grace")

    def guess(number: int) -> type[Exception] | None:
        try:
            services.password_check(username="grace", password="wrong", address=ADDRESS)
        except (Invalid, services.TooManyAttempts) as error:
            return type(error)
        finally:
            connection.close()
        return None

    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(guess, range(30)))
    assert outcomes.count(Invalid) <= services.ATTEMPTS
    assert set(outcomes) == {Invalid, services.TooManyAttempts}


def test_a_sign_in_link_works_once(db: None) -> None:
    user = make_user("grace")
    token = services.sign_in_link_create(user=user)
    assert token not in str(SignInLink.objects.values())
    assert services.sign_in_link_use(token=token) == user
    with pytest.raises(NotFound, match="used already"):
        services.sign_in_link_use(token=token)
    assert AuditEvent.objects.filter(verb="sign_in_link.use", actor=user).count() == 1


@pytest.mark.django_db(transaction=True)
def test_a_sign_in_link_used_twice_at_once_works_once() -> None:
    token = services.sign_in_link_create(user=make_user("grace"))

    def use(number: int) -> bool:
        try:
            return bool(services.sign_in_link_use(token=token))
        except NotFound:
            return False
        finally:
            connection.close()

    with ThreadPoolExecutor(6) as pool:
        assert sum(pool.map(use, range(6))) == 1


def test_an_old_link_and_one_of_an_inactive_user_are_refused(db: None) -> None:
    user = make_user("grace")
    old = services.sign_in_link_create(user=user)
    SignInLink.objects.update(expires_at=timezone.now())
    with pytest.raises(NotFound):
        services.sign_in_link_use(token=old)
    fresh = services.sign_in_link_create(user=user)
    User.objects.update(is_active=False)
    with pytest.raises(NotFound):
        services.sign_in_link_use(token=fresh)

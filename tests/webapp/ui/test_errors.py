"""What people see when something goes wrong."""

import logging

import pytest
from django.http import Http404, HttpResponse
from django.test import Client, RequestFactory, override_settings
from django.urls import path

from webapp.accounts.access import public
from webapp.accounts.models import User
from webapp.errors import Conflict, Forbidden, Invalid, NotFound, TooLarge, Unavailable
from webapp.ui.middleware import server_error

ERRORS = {
    "not-found": (NotFound("There is no such run."), 404),
    "forbidden": (Forbidden("Your role is viewer.", advice="Ask an admin."), 403),
    "conflict": (Conflict("It is running."), 409),
    "invalid": (Invalid("The name is too long."), 422),
    "too-large": (TooLarge("Over 2 GB."), 413),
    "unavailable": (Unavailable("No worker has answered."), 503),
}


@public
def fail(request: object, kind: str) -> HttpResponse:
    if kind == "bug":
        raise RuntimeError("secret detail")
    if kind == "http404":
        raise Http404("internal words")
    raise ERRORS[kind][0]


from webapp.urls import handler400, handler403, handler404, handler500  # noqa: E402, F401 (read by Django)
from webapp.urls import urlpatterns as studio_patterns  # noqa: E402

urlpatterns = [path("fail/<str:kind>", fail), *studio_patterns]
pytestmark = [pytest.mark.django_db, pytest.mark.urls(__name__)]


@pytest.mark.parametrize("kind", ERRORS)
def test_expected_errors_are_pages_with_their_status_and_advice(client: Client, kind: str) -> None:
    error, status = ERRORS[kind]
    answer = client.get(f"/fail/{kind}")
    assert answer.status_code == status
    html = answer.content.decode()
    assert error.message in html
    assert error.advice in html


@pytest.mark.parametrize("kind", ERRORS)
def test_to_htmx_they_are_a_message_in_the_corner(client: Client, kind: str) -> None:
    error, status = ERRORS[kind]
    answer = client.get(f"/fail/{kind}", headers={"HX-Request": "true"})
    assert answer.status_code == status
    assert answer["HX-Retarget"] == "#toasts"
    assert answer["HX-Reswap"] == "beforeend"
    assert error.message in answer.content.decode()
    assert "<html" not in answer.content.decode()


def test_an_error_of_somebody_signed_in_keeps_the_frame(client: Client, django_user_model: type[User]) -> None:
    user = User.objects.create(username="ada")
    client.force_login(user)
    html = client.get("/fail/conflict").content.decode()
    assert 'aria-label="Main"' in html


def test_an_unknown_address_is_a_styled_404_without_django_s_words(client: Client) -> None:
    for address in ("/nowhere", "/fail/http404"):
        answer = client.get(address)
        assert answer.status_code == 404
        assert "There is nothing at this address" in answer.content.decode()
        assert "internal words" not in answer.content.decode()


def test_below_the_api_s_address_errors_have_its_shape(client: Client) -> None:
    unknown = client.get("/api/v1/nowhere")
    assert unknown.status_code == 404
    assert unknown.json()["error"]["code"] == "not_found"
    wrong = client.put("/api/v1/runs")
    assert wrong.status_code == 405
    assert sorted(wrong["Allow"].split(", ")) == ["GET", "POST"]
    assert wrong.json()["error"] == {
        "code": "method_not_allowed",
        "message": "This address does not take PUT.",
        "fields": {},
        "advice": f"Use {wrong['Allow']}.",
    }


def test_a_bug_shows_a_reference_that_the_log_has_and_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    client = Client(raise_request_exception=False)
    with caplog.at_level(logging.ERROR, logger="webapp.ui.middleware"):
        answer = client.get("/fail/bug")
    html = answer.content.decode()
    assert answer.status_code == 500
    assert "secret detail" not in html
    reference = html.split("reference ")[1][:8]
    logged = next(record for record in caplog.records if record.name == "webapp.ui.middleware")
    assert reference in logged.getMessage()
    assert "secret detail" in str(logged.exc_info)


def test_the_page_of_a_bug_needs_no_database(rf: RequestFactory, django_db_blocker: object) -> None:
    request = rf.get("/anything")
    assert server_error(request).status_code == 500


def test_a_form_without_its_token_says_what_to_do() -> None:
    answer = Client(enforce_csrf_checks=True).post("/sign-in", {"username": "a", "password": "b"})
    assert answer.status_code == 403
    assert "Reload the page" in answer.content.decode()


@override_settings(ALLOWED_HOSTS=["studio.example"])
def test_a_wrong_host_is_a_400(client: Client) -> None:
    assert client.get("/sign-in", headers={"host": "evil.example"}).status_code == 400

"""Secrets stay out of the logs."""

import io
import logging

import pytest
from django.conf import settings
from django.test import Client

from webapp.accounts.crypto import new_token
from webapp.accounts.logs import HideSecrets


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("Forbidden (CSRF): /welcome/{token}", "Forbidden (CSRF): /welcome/…"),
        ('"GET /join/{token}?x=1 HTTP/1.1" 200', '"GET /join/…?x=1 HTTP/1.1" 200'),
        ("at /models/shared/{token}/download", "at /models/shared/…/download"),
        ("Bearer polm_{token} is unknown", "Bearer polm_… is unknown"),
        ("/welcome and /runs/1 and 100 %", "/welcome and /runs/1 and 100 %"),
    ],
)
def test_secrets_are_blanked_and_the_rest_stays(message: str, shown: str) -> None:
    text = message.format(token=new_token())
    record = logging.LogRecord("x", logging.WARNING, __file__, 1, "%s", (text,), None)
    assert HideSecrets().filter(record)
    assert record.getMessage() == shown


def test_every_handler_hides_them() -> None:
    handlers = settings.LOGGING["handlers"].values()
    assert handlers
    assert all("hide_secrets" in handler.get("filters", []) for handler in handlers)


def test_a_refused_form_leaves_no_link_in_the_log(db: None) -> None:
    token = new_token()
    (console,) = (one for one in logging.getLogger().handlers if any(isinstance(f, HideSecrets) for f in one.filters))
    assert isinstance(console, logging.StreamHandler)
    before = console.setStream(logged := io.StringIO())
    try:
        assert Client(enforce_csrf_checks=True).post(f"/welcome/{token}").status_code == 403
    finally:
        console.setStream(before)
    assert "/welcome/…" in logged.getvalue()
    assert token not in logged.getvalue()

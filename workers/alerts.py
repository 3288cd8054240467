"""Alerts: asking the rules, and sending what they gave by e-mail and webhook."""

import http.client
import json
import smtplib
import threading
from http import HTTPStatus

from django.core.mail import EmailMessage

from polm_core import outbound
from polm_core.errors import PolmError
from webapp.alerts.deliveries import (
    delivery_again,
    delivery_claim,
    delivery_done,
    delivery_fail,
)
from webapp.alerts.firing import rules_check
from webapp.alerts.messages import payload, signature, subject_and_text
from webapp.alerts.models import AlertDelivery
from webapp.alerts.selectors import deliveries_wait
from webapp.alerts.services import trusted_hosts, webhook_of
from workers.turns import take_turns

SECONDS = 10.0
_TRY_AGAIN = frozenset({408, 425, 429})

_checking = threading.Lock()
_delivering = threading.Lock()


class _Refused(PolmError):
    """A delivery that another attempt would not help."""

    code = "alert.refused"


class _Unsent(PolmError):
    """One that may go out later."""

    code = "alert.unsent"


def check() -> None:
    """Ask every rule; one thread of a process at a time."""
    if _checking.acquire(blocking=False):
        try:
            rules_check()
        finally:
            _checking.release()


def deliver(_delivery_id: str = "") -> None:
    """Send what waits, until nothing does."""
    take_turns(_delivering, deliveries_wait, delivery_claim, _carry_out)


def _carry_out(delivery: AlertDelivery) -> None:
    try:
        if delivery.recipient is not None:
            _mail(delivery, delivery.recipient.email)
        else:
            _post(delivery)
    except _Unsent as error:
        delivery_again(delivery=delivery, error=error)
    except PolmError as error:
        delivery_fail(delivery=delivery, error=error)
    else:
        delivery_done(delivery=delivery)


def _mail(delivery: AlertDelivery, address: str) -> None:
    if not address:
        raise _Refused("Who is to be mailed has no e-mail address.", advice="It is entered under Account.")
    subject, text = subject_and_text(delivery)
    headers = {"Auto-Submitted": "auto-generated", "X-PoLM-Delivery": str(delivery.pk)}
    try:
        EmailMessage(subject, text, to=[address], headers=headers).send()
    except smtplib.SMTPRecipientsRefused as error:
        raise _Refused(f"The mail server refuses the address {address}.", advice="See that it is right.") from error
    except (OSError, smtplib.SMTPException) as error:
        raise _Unsent(f"The mail server did not take it: {_short(error)}", advice="See the EMAIL_ settings.") from error


def _post(delivery: AlertDelivery) -> None:
    webhook = webhook_of(delivery.rule)
    if webhook is None:
        raise _Refused("The rule has no webhook any more.")
    body = json.dumps(payload(delivery)).encode()
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "PoLM-Studio",
        "X-PoLM-Delivery": str(delivery.pk),
    }
    if webhook["secret"]:
        headers["X-PoLM-Signature"] = signature(webhook["secret"], body)
    trusted = trusted_hosts()
    try:
        parts = outbound.check_url(webhook["url"], trusted, example="", takes_query=True)
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        status, answer = outbound.post(parts, path, body, headers, trusted, seconds=SECONDS)
    except ValueError as error:
        raise _Refused(f"The webhook's address {error}.") from error
    except TimeoutError as error:
        raise _Unsent(f"{delivery.rule.webhook_host} did not answer within {SECONDS:g} seconds.") from error
    except (OSError, http.client.HTTPException) as error:
        raise _Unsent(f"{delivery.rule.webhook_host} cannot be reached: {_short(error)}") from error
    if not HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
        _refuse(status, answer)


def _refuse(status: int, answer: bytes) -> None:
    said = " ".join(answer[:200].decode("utf-8", "replace").replace("\0", "").split())
    if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
        raise _Refused(f"It answered with status {status}, a redirect.", advice="Give the address that it leads to.")
    text = f"It answered with status {status}" + (f": {said}" if said else ".")
    raise (_Unsent if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in _TRY_AGAIN else _Refused)(text)


def _short(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:300]

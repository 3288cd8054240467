"""What an alert says by e-mail and to a webhook."""

import hashlib
import hmac
import math
from typing import Any

from django.conf import settings

from webapp.alerts.models import AlertDelivery

TEST = "This is a test: nothing has happened."


def subject_and_text(delivery: AlertDelivery) -> tuple[str, str]:
    """An e-mail's subject, on one line, and its text."""
    rule, alert = delivery.rule, delivery.alert
    about = alert.run.name if alert is not None else "a test"
    subject = " ".join(f"[{rule.project.name}] {rule.name}: {about}".split())
    lines = [alert.message if alert is not None else TEST]
    if alert is not None:
        lines += ["", f"Run: {alert.run.name}", _link("runs", alert.run_id)]
    lines += ["", f"The alert rule {rule.name} of {rule.project.name} names you:", _link("alerts/rules", rule.pk)]
    return subject, "\n".join(lines) + "\n"


def payload(delivery: AlertDelivery) -> dict[str, Any]:
    """What is posted to a webhook; `text` is what chat programs show. A value that is not finite is null."""
    rule, alert = delivery.rule, delivery.alert
    said = {
        "event": "test",
        "delivery": str(delivery.pk),
        "text": f"{rule.name}: {TEST}",
        "rule": {"id": str(rule.pk), "name": rule.name, "kind": rule.kind, "url": _link("alerts/rules", rule.pk)},
        "project": rule.project.name,
    }
    if alert is None:
        return said
    run = alert.run
    value = alert.value if alert.value is not None and math.isfinite(alert.value) else None
    return said | {
        "event": "alert",
        "text": f"{rule.name}: {run.name}. {alert.message} {_link('runs', run.pk)}",
        "alert": {
            "id": str(alert.pk),
            "message": alert.message,
            "value": value,
            "step": alert.step,
            "fired_at": alert.fired_at.isoformat(),
        },
        "run": {
            "id": str(run.pk),
            "name": run.name,
            "method": run.method,
            "status": run.status,
            "tags": run.tags,
            "url": _link("runs", run.pk),
        },
    }


def signature(secret: str, body: bytes) -> str:
    """What the header `X-PoLM-Signature` has: `sha256=` and the HMAC of the body in hex."""
    return "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def _link(place: str, pk: Any) -> str:
    """A page's address; written out, as workers do not load the studio's pages."""
    return f"{settings.PUBLIC_URL}/{place}/{pk}"

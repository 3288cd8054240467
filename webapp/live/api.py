"""The run's event stream, as the API's documentation lists it.

Behind an ASGI server `webapp.live.asgi` answers this address. Elsewhere each request is answered with what is new
since `Last-Event-ID`, and the client comes back for more.
"""

from typing import Any

from django.http import HttpRequest, HttpResponse
from ninja import Router

from webapp.accounts.access import Actor
from webapp.live.run_events import RunEvents
from webapp.runs.models import Run

router = Router(tags=["live"])

_DESCRIPTION = """
Server-sent events `metrics`, `status`, `log` and `sample`: each says that something new is stored, the data is read at
its own address. The first events tell what there is; `Last-Event-ID` limits them to what is new since.

`metrics` carries `lines` (metric lines stored), `log` and `sample` carry `to` (the offset up to which they are stored),
`status` carries `status`.
"""
_STREAM: dict[str, Any] = {
    "responses": {200: {"description": "A stream", "content": {"text/event-stream": {"schema": {"type": "string"}}}}}
}


@router.get("/runs/{run_id}/events", summary="A run's live events", description=_DESCRIPTION, openapi_extra=_STREAM)
def run_events(request: HttpRequest, run_id: str) -> HttpResponse:
    actor: Actor = request.actor  # type: ignore[attr-defined]
    run = actor.get(Run, run_id)
    events = RunEvents(run.pk, request.headers.get("Last-Event-ID", ""))
    return HttpResponse(events.catch_up(), content_type="text/event-stream", headers={"Cache-Control": "no-store"})

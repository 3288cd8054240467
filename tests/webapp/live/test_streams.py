"""Streams over a real socket: who may open one, what comes through, and what a client hears that was away."""

import asyncio
import json
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from urllib.parse import urlsplit

import httpx
import psycopg
import pytest
from django.db import connection, transaction

from tests.support.served import session_of
from tests.webapp.live.conftest import PATIENCE, Heard, bearer, listen, parse
from webapp.accounts.models import ApiToken, Membership, Team, User
from webapp.live import asgi
from webapp.live.notify import publish
from webapp.metrics.models import IngestPosition
from webapp.runs.models import Run, Status

Cookie = Callable[[User], dict[str, str]]
pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Heartbeats and rechecks in no time."""
    monkeypatch.setattr(asgi, "HEARTBEAT", 0.05)
    monkeypatch.setattr(asgi, "RECHECK", 0.1)


def events_of(server: str, run: Run) -> str:
    return f"{server}/api/v1/runs/{run.pk}/events"


def request_of(server: str, path: str, headers: dict[str, str]) -> bytes:
    """A request as it goes over the wire."""
    lines = [f"GET {path} HTTP/1.1", f"Host: {urlsplit(server).netloc}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "".join(f"{line}\r\n" for line in [*lines, ""]).encode()


# --- who may listen ---------------------------------------------------------------------------------------------------


def test_a_stranger_is_refused(server: str, run: Run) -> None:
    for path in (f"/events?topic=run:{run.pk}", f"/api/v1/runs/{run.pk}/events"):
        answer = httpx.get(server + path)
        assert answer.status_code == 401
        assert answer.json()["error"]["code"] == "unauthenticated"
        assert httpx.get(server + path, headers={"Cookie": "sessionid=nonsense"}).status_code == 401


def test_pages_take_no_token_and_a_wrong_token_is_not_made_good_by_a_session(
    server: str, run: Run, member: User, token: str, cookie: Cookie
) -> None:
    assert httpx.get(f"{server}/events?topic=run:{run.pk}", headers=bearer(token)).status_code == 401
    assert httpx.get(events_of(server, run), headers=bearer("polm_wrong") | cookie(member)).status_code == 401


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("", 422),
        ("topic=planet:1", 422),
        ("topic=run:1", 404),
        ("topic=run:00000000-0000-0000-0000-000000000000", 404),
        ("&".join(f"topic=team:{uuid.uuid4()}" for _ in range(51)), 422),
    ],
)
def test_topics_that_do_not_exist(server: str, member: User, cookie: Cookie, query: str, status: int) -> None:
    answer = httpx.get(f"{server}/events?{query}", headers=cookie(member))
    assert answer.status_code == status
    assert answer.json()["error"]["message"]


def test_another_teams_things_are_not_there(server: str, run: Run, team: Team, outsider: User, cookie: Cookie) -> None:
    theirs = [f"/events?topic=run:{run.pk}", f"/events?topic=team:{team.pk}", f"/api/v1/runs/{run.pk}/events"]
    theirs.append(f"/events?topic=team:{outsider.memberships.get().team_id}&topic=run:{run.pk}")
    for path in theirs:
        assert httpx.get(server + path, headers=cookie(outsider)).status_code == 404
    assert httpx.get(f"{server}/api/v1/runs/nonsense/events", headers=cookie(outsider)).status_code == 404


def test_other_addresses_and_methods_are_djangos(server: str, run: Run, token: str) -> None:
    assert httpx.get(f"{server}/nowhere").status_code == 404
    assert httpx.post(f"{server}/events").status_code in (403, 404)
    assert httpx.post(events_of(server, run), headers=bearer(token)).status_code == 405


def test_a_full_house_is_said_so_and_leaving_makes_room(
    server: str, run: Run, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asgi, "MAX_STREAMS", 1)
    url = events_of(server, run)
    with listen(url, bearer(token)):
        assert httpx.get(url, headers=bearer(token)).status_code == 503
    deadline = time.monotonic() + PATIENCE
    while True:
        with httpx.stream("GET", url, headers=bearer(token)) as response:
            if response.status_code == 200:
                break
        assert time.monotonic() < deadline
        time.sleep(0.05)


def revoke_token(user: User) -> None:
    ApiToken.objects.update(revoked_at="2026-01-01T00:00Z")


def leave_team(user: User) -> None:
    Membership.objects.filter(user=user).delete()


def deactivate(user: User) -> None:
    User.objects.filter(pk=user.pk).update(is_active=False)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("end", [revoke_token, leave_team, deactivate])
def test_a_stream_ends_with_the_right_to_it(
    server: str, run: Run, member: User, token: str, end: Callable[[User], None]
) -> None:
    with listen(events_of(server, run), bearer(token)) as events:
        assert next(events).name == "status"
        end(member)
        assert {event.name for event in events} <= {"comment"}
    assert httpx.get(events_of(server, run), headers=bearer(token)).status_code in (401, 404)


@pytest.mark.usefixtures("impatient")
def test_a_stream_ends_with_the_session(server: str, team: Team, member: User) -> None:
    session = session_of(member)
    headers = {"Cookie": f"sessionid={session.session_key}"}
    with listen(f"{server}/events?topic=team:{team.pk}", headers) as events:
        assert next(events).name == "comment"
        session.delete()
        assert {event.name for event in events} <= {"comment"}


# --- what comes through -----------------------------------------------------------------------------------------------


def test_a_page_hears_its_topics_and_no_others(server: str, run: Run, team: Team, member: User, cookie: Cookie) -> None:
    with listen(f"{server}/events?topic=run:{run.pk}&topic=team:{team.pk}", cookie(member)) as events:
        publish(f"run:{uuid.uuid4()}", "status", {"status": "running"})
        publish(f"run:{run.pk}", "metrics", {"step": 3, "loss": float("nan")})
        publish(f"team:{team.pk}", "status")
        first, second = next(events), next(events)
    assert first.data == {"topic": f"run:{run.pk}", "kind": "metrics", "data": {"step": 3, "loss": None}}
    assert second.data == {"topic": f"team:{team.pk}", "kind": "status", "data": {}}


def test_an_event_comes_with_the_commit_and_goes_with_the_rollback(server: str, run: Run, token: str) -> None:
    with listen(events_of(server, run), bearer(token)) as events:
        assert next(events).name == "status"
        with transaction.atomic():
            publish(f"run:{run.pk}", "metrics", {"lines": 1})
            transaction.set_rollback(True)
        with transaction.atomic():
            publish(f"run:{run.pk}", "metrics", {"lines": 2})
        assert next(events).data == {"lines": 2}


def test_data_that_is_too_large_is_left_out(server: str, run: Run, team: Team, member: User, cookie: Cookie) -> None:
    with listen(f"{server}/events?topic=team:{team.pk}", cookie(member)) as events:
        publish(f"team:{team.pk}", "log", {"text": "é" * 4_000})
        publish(f"team:{team.pk}", "log", {"text": "é" * 3_000})
        assert next(events).data["data"] == {}
        assert len(next(events).data["data"]["text"]) == 3_000


def test_foreign_notifications_do_no_harm(server: str, run: Run, token: str) -> None:
    with listen(events_of(server, run), bearer(token)) as events:
        assert next(events).name == "status"
        with connection.cursor() as cursor:
            for payload in ("", "[]", "nonsense", '{"topic": 1}'):
                cursor.execute("SELECT pg_notify('studio', %s)", [payload])
        publish(f"run:{run.pk}", "metrics", {"lines": 2})
        assert next(events).data == {"lines": 2}


@pytest.mark.usefixtures("impatient")
def test_a_quiet_stream_has_a_heartbeat(server: str, run: Run, token: str) -> None:
    with listen(events_of(server, run), bearer(token)) as events:
        assert [next(events).name for _ in range(3)] == ["status", "comment", "comment"]


def test_two_hundred_clients_hear_everything_in_order(
    server: str, run: Run, team: Team, member: User, cookie: Cookie
) -> None:
    clients, count = 200, 50
    request = request_of(server, f"/events?topic=run:{run.pk}", cookie(member))

    async def client(ready: asyncio.Semaphore) -> list[int]:
        reader, writer = await asyncio.open_connection(urlsplit(server).hostname, urlsplit(server).port)
        writer.write(request)
        heard: list[int] = []
        while len(heard) < count:
            line = await reader.readline()
            if line.startswith(b"retry"):
                ready.release()
            elif line.startswith(b"data"):
                heard.append(json.loads(line[5:])["data"]["lines"])
        writer.close()
        return heard

    async def everyone() -> list[list[int]]:
        ready = asyncio.Semaphore(0)
        listeners = [asyncio.create_task(client(ready)) for _ in range(clients)]
        for _ in range(clients):
            await asyncio.wait_for(ready.acquire(), 60)
        await asyncio.to_thread(publish_many)
        return await asyncio.gather(*listeners)

    def publish_many() -> None:
        for number in range(count):
            publish(f"run:{run.pk}", "metrics", {"lines": number})
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()")
            open_connections.append(cursor.fetchone()[0])
        connection.close()

    open_connections: list[int] = []
    with ThreadPoolExecutor(1) as thread:  # this one may have a browser's event loop
        assert thread.submit(asyncio.run, everyone()).result() == [list(range(count))] * clients
    # This thread's, the test's own, the listener's, and at most one for whoever is being checked.
    assert open_connections[0] <= 4


def test_a_client_that_does_not_keep_up_is_told_to_read_afresh(
    server: str, team: Team, member: User, cookie: Cookie
) -> None:
    place = urlsplit(server)
    with socket.create_connection((place.hostname or "", place.port or 0), timeout=PATIENCE) as slow:
        slow.sendall(request_of(server, f"/events?topic=team:{team.pk}", cookie(member)))
        assert b"200 OK" in slow.recv(4096)
        with transaction.atomic():
            for number in range(3_000):
                publish(f"team:{team.pk}", "log", {"number": number, "text": "x" * 6_000})
        time.sleep(0.5)
        publish(f"team:{team.pk}", "status", {"number": 9_999})
        received = b""
        while b'"number":9999' not in received:
            received += slow.recv(1 << 20)
    assert received.count(b"event: resync") >= 1
    assert received.index(b"event: resync") < received.index(b'"number":9999')
    assert received.count(b'"kind":"log"') < 3_000


# --- coming back ------------------------------------------------------------------------------------------------------


def store(run: Run, lines: int, log: int, samples: int, status: str) -> None:
    position = {"metrics_lines": lines, "log_base": 100, "log_offset": log - 100, "samples_offset": samples}
    IngestPosition.objects.update_or_create(run=run, defaults=position)
    Run.objects.filter(pk=run.pk).update(status=status)


def heard_until_status(events: Iterator[Heard]) -> list[Heard]:
    heard = []
    for event in events:
        heard.append(event)
        if event.name == "status":
            break
    return heard


def test_a_new_client_is_told_what_there_is(server: str, run: Run, token: str) -> None:
    store(run, 12, 300, 40, Status.RUNNING)
    with listen(events_of(server, run), bearer(token)) as events:
        assert heard_until_status(events) == [
            Heard("metrics", {"lines": 12}, "12:0:0:"),
            Heard("log", {"to": 300}, "12:300:0:"),
            Heard("sample", {"to": 40}, "12:300:40:"),
            Heard("status", {"status": "running"}, "12:300:40:running"),
        ]


@pytest.mark.parametrize("position", ["", "nonsense", "1:2:3", "a:b:c:d", "-1:-1:-1:x", "9" * 4000])
def test_a_position_that_is_none_counts_as_the_beginning(server: str, run: Run, token: str, position: str) -> None:
    store(run, 12, 300, 40, Status.RUNNING)
    with listen(events_of(server, run), bearer(token) | {"Last-Event-ID": position}) as events:
        assert [event.name for event in heard_until_status(events)] == ["metrics", "log", "sample", "status"]


def test_a_client_that_comes_back_hears_what_is_new_once(server: str, run: Run, token: str) -> None:
    store(run, 12, 300, 40, Status.RUNNING)
    with listen(events_of(server, run), bearer(token)) as events:
        last = heard_until_status(events)[-1].id
    store(run, 15, 300, 40, Status.SUCCEEDED)
    with listen(events_of(server, run), bearer(token) | {"Last-Event-ID": last}) as events:
        assert heard_until_status(events) == [
            Heard("metrics", {"lines": 15}, "15:300:40:running"),
            Heard("status", {"status": "succeeded"}, "15:300:40:succeeded"),
        ]
        publish(f"run:{run.pk}", "metrics", {"lines": 15})
        publish(f"run:{run.pk}", "log", {"to": 301, "text": "x"})
        assert next(events) == Heard("log", {"to": 301, "text": "x"}, "15:301:40:succeeded")
    with listen(events_of(server, run), bearer(token) | {"Last-Event-ID": "15:300:40:succeeded"}) as events:
        publish(f"run:{run.pk}", "progress", {"rows": 3})
        publish(f"run:{run.pk}", "metrics", {"lines": 16})
        assert next(events) == Heard("metrics", {"lines": 16}, "16:300:40:succeeded")


def test_an_event_that_does_not_say_where_is_looked_up(server: str, run: Run, token: str) -> None:
    store(run, 12, 300, 40, Status.RUNNING)
    with listen(events_of(server, run), bearer(token)) as events:
        heard_until_status(events)
        store(run, 13, 400, 40, Status.RUNNING)
        publish(f"run:{run.pk}", "log", {"text": "x" * 8_000})
        assert [next(events).id for _ in range(2)] == ["13:300:40:running", "13:400:40:running"]


def test_the_stream_of_a_deleted_run_ends(server: str, run: Run, token: str) -> None:
    with listen(events_of(server, run), bearer(token)) as events:
        heard_until_status(events)
        run_id = run.pk
        run.delete()
        publish(f"run:{run_id}", "metrics")
        assert list(events) == []


@contextmanager
def database_out_of_reach() -> Iterator[None]:
    """Cut the listeners off and let nobody connect, as while Postgres restarts."""
    parameters = connection.get_connection_params()
    wanted = {name: parameters[name] for name in ("host", "user") if name in parameters}
    name = connection.settings_dict["NAME"]
    with psycopg.connect(**wanted, dbname="postgres", autocommit=True) as outside:
        outside.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
        try:
            outside.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = %s AND application_name = 'studio live'",
                [name],
            )
            yield
        finally:
            outside.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')


def test_streams_outlive_the_database_and_catch_up(
    server: str, run: Run, team: Team, member: User, token: str, cookie: Cookie
) -> None:
    store(run, 12, 300, 40, Status.RUNNING)
    page = f"{server}/events?topic=team:{team.pk}"
    with listen(events_of(server, run), bearer(token)) as events, listen(page, cookie(member)) as page_events:
        heard_until_status(events)
        with database_out_of_reach():
            store(run, 20, 300, 40, Status.RUNNING)
            publish(f"run:{run.pk}", "metrics", {"lines": 20})
            time.sleep(0.5)
        assert next(events) == Heard("metrics", {"lines": 20}, "20:300:40:running")
        assert next(page_events).name == "resync"
        publish(f"team:{team.pk}", "status")
        assert next(page_events).data["kind"] == "status"


def test_the_plain_api_answers_with_what_is_new(run: Run, api: object) -> None:
    store(run, 12, 300, 40, Status.RUNNING)
    answer = api.get(f"/runs/{run.pk}/events", headers={"Last-Event-ID": "12:300:0:running"})  # type: ignore[attr-defined]
    assert answer["Content-Type"] == "text/event-stream"
    assert list(parse(iter(answer.content.decode().split("\n")))) == [Heard("sample", {"to": 40}, "12:300:40:running")]

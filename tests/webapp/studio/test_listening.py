"""The address: free or taken, and whether somebody answers there."""

import http.server
import socket
import threading
from collections.abc import Iterator

import pytest
from pytest_django import Settings

from webapp.studio.listening import address, answers_health, free_port
from webapp.studio.plan import CannotStart


class Answers(http.server.BaseHTTPRequestHandler):
    status = 200

    def do_GET(self) -> None:
        expected = self.path == "/api/v1/health" and self.headers["Host"] == "studio.example.org"
        self.send_response(self.status if expected else 404)
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def web(settings: Settings) -> Iterator[int]:
    settings.ALLOWED_HOSTS = ["*", ".studio.example.org"]
    with http.server.HTTPServer(("127.0.0.1", 0), Answers) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(("status", "answers"), [(200, True), (301, True), (400, False), (503, False)])
def test_health_is_asked_for_under_an_allowed_name(
    web: int, monkeypatch: pytest.MonkeyPatch, status: int, answers: bool
) -> None:
    monkeypatch.setattr(Answers, "status", status)
    assert answers_health("127.0.0.1", web) is answers
    assert answers_health("0.0.0.0", web) is answers


def test_nobody_answers_on_a_free_port() -> None:
    assert not answers_health("127.0.0.1", free_port("127.0.0.1", 0))


def test_a_free_port_is_kept() -> None:
    port = free_port("127.0.0.1", 0)
    assert free_port("127.0.0.1", port) == port


@pytest.mark.parametrize("taken", ["127.0.0.1", "0.0.0.0"])
def test_a_port_in_use_names_the_remedy(taken: str) -> None:
    with socket.socket() as other:
        other.bind((taken, 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(CannotStart, match=rf"Port {port} is in use.*make run PORT={port + 1}"):
            free_port("127.0.0.1", port)


@pytest.mark.parametrize("host", ["192.0.2.1", "no such host"])
def test_an_address_that_is_not_ours_is_refused(host: str) -> None:
    with pytest.raises(CannotStart, match="HOST must be an address of this machine"):
        free_port(host, 8000)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", "http://127.0.0.1:8000"),
        ("0.0.0.0", "http://localhost:8000"),
        ("::", "http://localhost:8000"),
        ("::1", "http://[::1]:8000"),
        ("10.0.0.5", "http://10.0.0.5:8000"),
    ],
)
def test_the_printed_address_can_be_opened_here(host: str, expected: str) -> None:
    assert address(host, 8000) == expected


def test_the_printed_address_says_https_where_it_is_used(settings: Settings) -> None:
    settings.HTTPS = True
    assert address("127.0.0.1", 8000) == "https://127.0.0.1:8000"

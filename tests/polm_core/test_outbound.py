"""Calls to addresses that people gave: what they may cost. Which are refused stands with the judge and the webhooks."""

import contextlib
import socket
import time
from collections.abc import Iterator
from threading import Event, Thread

import pytest

from polm_core.outbound import Trusted, check_url, post

HERE = Trusted("SETTING", frozenset({"127.0.0.1"}))
HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"


@contextlib.contextmanager
def dripping(start: bytes) -> Iterator[str]:
    """A server that sends `start`, and then a byte now and then, for ever."""
    over = Event()

    def serve(listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            connection, _ = listener.accept()
            with connection:
                connection.recv(65_536)
                connection.sendall(start)
                while not over.wait(0.05):
                    connection.sendall(b"x")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = Thread(target=serve, args=(listener,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
        finally:
            over.set()
            thread.join()


@pytest.mark.parametrize("start", [b"", b"HTTP/1.1 200 OK\r\nX-Long: ", HEAD], ids=["line", "header", "body"])
def test_who_sends_a_byte_now_and_then_holds_nobody_up(start: bytes) -> None:
    with dripping(start) as url:
        begun = time.monotonic()
        with pytest.raises(TimeoutError):
            post(check_url(url, HERE, example=url), "/", b"{}", {}, HERE, seconds=0.5)
        assert 0.4 < time.monotonic() - begun < 10


def test_a_query_is_taken_where_the_caller_takes_one() -> None:
    url = "https://hooks.example.com/x?key=1"
    assert check_url(url, HERE, example=url, takes_query=True).query == "key=1"
    with pytest.raises(ValueError, match="plain address"):
        check_url(url, HERE, example=url)

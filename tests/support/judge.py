"""An OpenAI-compatible server on this machine, as far as a judge needs one."""

import json
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock
from typing import Any

import pytest

from polm_core.rewards.endpoint import Endpoint
from tests.support.listening import listening

MODEL = "judge-1"
KEY = "sk-judge"


class JudgeServer(ThreadingHTTPServer):
    """`reply` makes the reply to a question; `failures` are statuses that come first; `delay` is slept before each."""

    daemon_threads = True

    def __init__(self, reply: Callable[[str], str] = lambda question: "5") -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.reply = reply
        self.failures: list[int] = []
        self.body: bytes | None = None
        self.delay = 0.0
        self.asked: list[dict[str, Any]] = []
        self.lock = Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint(self.url, MODEL, KEY, frozenset({"127.0.0.1"}))


class _Handler(BaseHTTPRequestHandler):
    server: JudgeServer

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.asked.append({"path": self.path, **asked})
            failure = self.server.failures.pop(0) if self.server.failures else 0
        time.sleep(self.server.delay)
        if failure:
            return self._answer(failure, b"busy", {"Location": "http://127.0.0.1:1/"})
        if self.headers.get("Authorization") != f"Bearer {KEY}" or asked["model"] != MODEL:
            return self._answer(401, b"wrong key or model", {})
        content = self.server.reply(asked["messages"][-1]["content"])
        body = {"choices": [{"index": 0, "message": {"role": "assistant", "content": content}}]}
        return self._answer(200, self.server.body or json.dumps(body).encode(), {})

    def log_message(self, *_: object) -> None:
        """Quiet."""

    def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        try:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)
        except OSError:
            """Whoever asked has left."""


def judging() -> AbstractContextManager[JudgeServer]:
    """The server, answering."""
    return listening(JudgeServer())


def answering_to(server: JudgeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have this process ask the server where it asks a judge."""
    for name, value in zip(("URL", "MODEL", "KEY", "HOSTS"), server.endpoint, strict=True):
        monkeypatch.setenv(f"POLM_JUDGE_{name}", value if isinstance(value, str) else ",".join(value))

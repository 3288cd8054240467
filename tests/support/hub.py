"""A Hugging Face hub on this machine, as far as fetching a model needs one."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class FakeHub(ThreadingHTTPServer):
    """`models` maps an id to its files; `gated` ids answer only to a request that carries `token`."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.models: dict[str, dict[str, bytes]] = {}
        self.gated: set[str] = set()
        self.token = "hf_secret"
        self.damaged: set[str] = set()
        self.fetched: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: FakeHub

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def log_message(self, *_: object) -> None:
        """Quiet."""

    def _answer(self, *, body: bool) -> None:
        parts = unquote(urlsplit(self.path).path).strip("/").split("/")
        api = parts[:2] == ["api", "models"]
        owner, name, *asked = parts[2:] if api else parts
        what, revision, *path = asked or ["revision", "main"]
        repo = f"{owner}/{name}"
        files = self.server.models.get(repo)
        if files is None:
            self._refuse(401, "RepoNotFound")
        elif repo in self.server.gated and self.headers.get("Authorization") != f"Bearer {self.server.token}":
            self._refuse(403, "GatedRepo")
        elif revision not in ("main", COMMIT):
            self._refuse(404, "RevisionNotFound")
        elif what == "resolve":
            self._file(files, "/".join(path), body=body)
        else:
            entries = [_entry(name, content) for name, content in files.items()]
            info = {"id": repo, "sha": COMMIT, "private": False, "tags": [], "siblings": entries}
            self._send(200, json.dumps(entries if what == "tree" else info).encode(), {})

    def _file(self, files: dict[str, bytes], name: str, *, body: bool) -> None:
        content = files.get(name)
        if content is None:
            self._refuse(404, "EntryNotFound")
            return
        if body:
            self.server.fetched.append(name)
        sent = b"x" * len(content) if name in self.server.damaged else content
        etag = hashlib.sha256(content).hexdigest()
        self._send(200, sent, {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT}, body=body)

    def _refuse(self, status: int, code: str) -> None:
        self._send(status, b"{}", {"X-Error-Code": code})

    def _send(self, status: int, content: bytes, headers: dict[str, str], *, body: bool = True) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if body and self.command == "GET":
            self.wfile.write(content)


def _entry(name: str, content: bytes) -> dict[str, object]:
    """A file as the hub lists it, in the words of both `siblings` and `tree`."""
    digest = hashlib.sha256(content).hexdigest()
    lfs = {"size": len(content), "sha256": digest, "oid": digest, "pointerSize": 1}
    return {"rfilename": name, "path": name, "type": "file", "size": len(content), "oid": "0", "lfs": lfs}


@contextmanager
def fake_hub() -> Iterator[FakeHub]:
    hub = FakeHub()
    Thread(target=hub.serve_forever, daemon=True).start()
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()

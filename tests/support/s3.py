"""An S3 server for tests: moto's, in a process of its own, with a log of every request."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.studio import free_port
from webapp import artifacts

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "studio", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}
BUCKET = "models"


class S3Server:
    """Where the server is, and what it was asked."""

    def __init__(self, log: Path) -> None:
        self.port = free_port()
        self.env = {**CREDENTIALS, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.port}"}
        self._log = log

    def start(self) -> "subprocess.Popen[bytes]":
        with self._log.open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)], stdout=log, stderr=log
            )
        deadline = time.monotonic() + 60
        while not self._answers():
            assert time.monotonic() < deadline, self._log.read_text()
            time.sleep(0.1)
        return process

    def _answers(self) -> bool:
        try:
            return httpx.get(f"{self.env['AWS_ENDPOINT_URL']}/moto-api/", trust_env=False).status_code == 200
        except httpx.HTTPError:
            return False

    def requests(self) -> list[str]:
        """Every request so far, as `PUT /bucket/key?query`."""
        lines = self._log.read_text(errors="replace").splitlines()
        return [line.split('"')[1].rsplit(" HTTP/", 1)[0] for line in lines if " HTTP/1.1" in line]


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    with tempfile.TemporaryDirectory() as folder:
        server = S3Server(Path(folder) / "s3.log")
        process = server.start()
        try:
            yield server
        finally:
            process.terminate()
            process.wait(10)


@pytest.fixture
def s3_store(
    s3_server: S3Server, settings: object, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[S3Server]:
    """An artifact store in an empty bucket of the server, and an empty cache."""
    for name, value in s3_server.env.items():
        monkeypatch.setenv(name, value)
    httpx.post(f"{s3_server.env['AWS_ENDPOINT_URL']}/moto-api/reset", trust_env=False)
    httpx.put(f"{s3_server.env['AWS_ENDPOINT_URL']}/{BUCKET}", trust_env=False)
    settings.ARTIFACT_URL = f"s3://{BUCKET}/studio"  # type: ignore[attr-defined]
    settings.CACHE_DIR = tmp_path / "cache"  # type: ignore[attr-defined]
    artifacts._store.cache_clear()
    yield s3_server
    artifacts._store.cache_clear()

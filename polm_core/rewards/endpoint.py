"""An OpenAI-compatible server as the judge.

Where it is and who asks comes from the environment (`POLM_JUDGE_*`), never from a run's settings. Addresses that are
not public are refused unless `POLM_JUDGE_HOSTS` names the host, so that nobody reaches what only the worker can reach.
"""

import http.client
import ipaddress
import json
import os
import re
import socket
import ssl
import time
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, Self
from urllib.parse import SplitResult, urlsplit

from polm_core.errors import ConfigError
from polm_core.rewards.judge import RUBRIC, Judge

URL, MODEL, KEY, HOSTS = "POLM_JUDGE_URL", "POLM_JUDGE_MODEL", "POLM_JUDGE_KEY", "POLM_JUDGE_HOSTS"

_PATH = "/chat/completions"
_AT_ONCE = 8
_TRIES = 3
_SECONDS = 30.0
# A reply is a number; models that think first need room for it.
_MAX_TOKENS = 1024
_MAX_BYTES = 1_000_000
_NUMBER = re.compile(r"(?<![\w.])\d+(?:\.\d+)?(?!\w)")
# Gateways to IPv4 carry the address that they lead to in theirs.
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_TRY_AGAIN = frozenset({408, 409, 425, 429, 500, 502, 503, 504})


class Endpoint(NamedTuple):
    """Where the judge is asked: the address up to `/v1`, the model's name there, the key or nothing."""

    url: str
    model: str
    key: str = ""
    allowed_hosts: frozenset[str] = frozenset()

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Self | None:
        """The endpoint that this process may ask; None when there is none."""
        url, model = environment.get(URL, ""), environment.get(MODEL, "")
        hosts = hosts_of(environment.get(HOSTS, ""))
        return cls(url, model, environment.get(KEY, ""), hosts) if url and model else None


def hosts_of(text: str) -> frozenset[str]:
    """The hosts that a setting names, separated by commas."""
    return frozenset(host.strip().lower() for host in text.split(",") if host.strip())


def check_url(url: str, allowed_hosts: Collection[str] = ()) -> SplitResult:
    """The parts of an endpoint's address; raises `ValueError` for one that must not be asked.

    A host's name is resolved only when it is connected to, see `connect`.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ValueError(f"must be an address such as https://api.example.com/v1: {error}") from error
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise ValueError("must be an address such as https://api.example.com/v1")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError("must be a plain address: the key goes into the field of its own")
    if re.search(r"[\s\x00-\x1f\x7f]", url):
        raise ValueError("must have no blanks in it")
    if parts.hostname in allowed_hosts:
        return parts
    if parts.scheme == "http":
        raise ValueError(f"must begin with https://, unless {HOSTS} names the host {parts.hostname}")
    if _is_address(parts.hostname):
        _check_address(parts.hostname, parts.hostname)
    return parts


def connect(host: str, port: int, *, allowed: bool, timeout: float) -> socket.socket:
    """A connection to the host, at an address that was looked at; raises `ValueError` when it is not public.

    The name is resolved once, so that what was looked at is what is connected to.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    if not allowed:
        for *_, address in found:
            _check_address(str(address[0]), host)
    problem: OSError | None = None
    for *_, address in found:
        try:
            return socket.create_connection((str(address[0]), port), timeout)
        except OSError as error:
            problem = error
    raise problem or OSError(f"{host} has no address")


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _check_address(address: str, host: str) -> None:
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address) and found in _NAT64:
        found = ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)
    elif isinstance(found, ipaddress.IPv6Address):
        found = found.ipv4_mapped or found.sixtofour or found
    if not found.is_global or found.is_multicast:
        raise ValueError(f"must be a public address: {host} is {address}; {HOSTS} can name it as one that is allowed")


class _Connection(http.client.HTTPConnection):
    """One that goes only where `connect` lets it; redirects are answers like any other."""

    def __init__(self, parts: SplitResult, *, allowed: bool, timeout: float) -> None:
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        port = parts.port or (443 if self._tls else 80)
        super().__init__(str(parts.hostname), port, timeout=timeout)
        self._allowed, self._seconds = allowed, timeout

    def connect(self) -> None:
        plain = connect(self.host, self.port, allowed=self._allowed, timeout=self._seconds)
        try:
            self.sock = self._tls.wrap_socket(plain, server_hostname=self.host) if self._tls else plain
        except BaseException:
            plain.close()
            raise


class EndpointJudge(Judge):
    """Reads the first number of a reply. Raises `ConfigError` for an address that must not be asked."""

    def __init__(
        self, endpoint: Endpoint, rubric: str = RUBRIC, *, seconds: float = _SECONDS, pause: float = 1.0
    ) -> None:
        super().__init__(rubric)
        self.endpoint = endpoint
        self._seconds, self._pause = seconds, pause
        try:
            self._parts = check_url(endpoint.url, endpoint.allowed_hosts)
        except ValueError as error:
            raise ConfigError(
                f"The judge's endpoint {error}.",
                code="judge.endpoint",
                advice="Set it on the Team page, or in the worker's environment.",
            ) from error

    def ratings(self, questions: Sequence[str], best: int) -> list[float | None]:
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            return list(pool.map(lambda question: self._rating(question, best), questions))

    def _rating(self, question: str, best: int) -> float | None:
        reply = self._reply(question)
        if reply is None:
            return None
        found = _NUMBER.search(reply.rpartition("</think>")[2])
        rating = float(found.group()) if found else 0.0
        if 1 <= rating <= best:
            return rating
        self.problem = f"it replied {reply.strip()[:80]!r}, where a number from 1 to {best} was asked for"
        return None

    def _reply(self, question: str) -> str | None:
        """What the endpoint says, after a few tries; None when it says nothing, with the `problem`."""
        for number in range(_TRIES):
            if number:
                time.sleep(self._pause * 2 ** (number - 1))
            try:
                status, body = self._post(question)
            except ValueError as error:
                self.problem = f"its address {error}"
                return None
            except TimeoutError:
                self.problem = f"it did not answer within {self._seconds:g} seconds"
                continue
            except (OSError, http.client.HTTPException) as error:
                self.problem = f"it cannot be reached: {error}"
                continue
            if status == http.HTTPStatus.OK:
                return self._content(body)
            self.problem = (
                f"it answered with status {status}: {' '.join(body[:200].decode('utf-8', 'replace').split())}"
            )
            if status not in _TRY_AGAIN:
                return None
        return None

    def _post(self, question: str) -> tuple[int, bytes]:
        body = {
            "model": self.endpoint.model,
            "messages": [{"role": "user", "content": question}],
            "temperature": 0,
            "max_tokens": _MAX_TOKENS,
        }
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self.endpoint.key:
            headers["Authorization"] = f"Bearer {self.endpoint.key}"
        allowed = self._parts.hostname in self.endpoint.allowed_hosts
        deadline = time.monotonic() + self._seconds
        connection = _Connection(self._parts, allowed=allowed, timeout=self._seconds)
        try:
            connection.request("POST", self._parts.path.rstrip("/") + _PATH, json.dumps(body).encode(), headers)
            response = connection.getresponse()
            read = b""
            while (piece := response.read1(65_536)) and len(read) <= _MAX_BYTES:
                read += piece
                if time.monotonic() > deadline:
                    raise TimeoutError
            return response.status, read
        finally:
            connection.close()

    def _content(self, body: bytes) -> str | None:
        try:
            content: Any = json.loads(body)["choices"][0]["message"]["content"]
        except (ValueError, LookupError, TypeError, RecursionError):
            content = None
        if isinstance(content, str):
            return content
        self.problem = "its answer is not that of an OpenAI-compatible server"
        return None

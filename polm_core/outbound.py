"""Calling addresses that people gave: public ones alone, unless whoever runs the studio names the host.

So nobody reaches through the studio what only the studio can reach. A name is resolved once, so that what was looked at
is what is connected to; redirects are answers like any other.
"""

import contextlib
import http.client
import ipaddress
import re
import socket
import ssl
import threading
import time
from collections.abc import Collection, Mapping
from typing import NamedTuple
from urllib.parse import SplitResult, urlsplit

# So much of an answer is read.
MAX_BYTES = 1_000_000

# Gateways to IPv4 carry the address that they lead to in theirs.
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


class Trusted(NamedTuple):
    """Hosts that may be called though they are not public, and the setting that names them."""

    setting: str
    hosts: Collection[str] = frozenset()


def hosts_of(text: str) -> frozenset[str]:
    """The hosts that a setting names, separated by commas."""
    return frozenset(host.strip().lower() for host in text.split(",") if host.strip())


def check_url(url: str, trusted: Trusted, *, example: str, takes_query: bool = False) -> SplitResult:
    """The parts of an address; raises `ValueError` for one that must not be called.

    A host's name is resolved only when it is connected to, see `connect`.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ValueError(f"must be an address such as {example}: {error}") from error
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise ValueError(f"must be an address such as {example}")
    if parts.username or parts.password or parts.fragment or (parts.query and not takes_query):
        raise ValueError("must be a plain address: the key goes into the field of its own")
    if re.search(r"[\s\x00-\x1f\x7f]", url):
        raise ValueError("must have no blanks in it")
    if parts.hostname in trusted.hosts:
        return parts
    if parts.scheme == "http":
        raise ValueError(f"must begin with https://, unless {trusted.setting} names the host {parts.hostname}")
    if _is_address(parts.hostname):
        _check_address(parts.hostname, parts.hostname, trusted)
    return parts


def connect(host: str, port: int, trusted: Trusted, *, timeout: float) -> socket.socket:
    """A connection to the host, at an address that was looked at; raises `ValueError` when it is not public.

    The name is resolved once, so that what was looked at is what is connected to.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    if host not in trusted.hosts:
        for *_, address in found:
            _check_address(str(address[0]), host, trusted)
    problem: OSError | None = None
    for *_, address in found:
        try:
            return socket.create_connection((str(address[0]), port), timeout)
        except OSError as error:
            problem = error
    raise problem or OSError(f"{host} has no address")


def post(
    parts: SplitResult, path: str, body: bytes, headers: Mapping[str, str], trusted: Trusted, *, seconds: float
) -> tuple[int, bytes]:
    """The status and the first `MAX_BYTES` of what the host of `parts` answers to a POST.

    Raises `ValueError` for an address that is not public, `TimeoutError` when the whole took longer than `seconds`, and
    what sockets and `http.client` raise.
    """
    connection = _Connection(parts, trusted, timeout=seconds)
    # Timeouts of the socket begin anew with each byte: who sends one now and then would hold the thread for hours.
    ender = threading.Timer(seconds, connection.give_up)
    ender.daemon = True
    ender.start()
    try:
        connection.request("POST", path, body, dict(headers))
        response = connection.getresponse()
        read = b""
        while len(read) <= MAX_BYTES and (piece := response.read1(65_536)):
            read += piece
        if connection.gave_up:
            raise TimeoutError
        return response.status, read
    except (OSError, http.client.HTTPException) as error:
        if connection.gave_up:
            raise TimeoutError from error
        raise
    finally:
        ender.cancel()
        connection.close()


class _Connection(http.client.HTTPConnection):
    """One that goes only where `connect` lets it, and that another thread can end."""

    def __init__(self, parts: SplitResult, trusted: Trusted, *, timeout: float) -> None:
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        port = parts.port or (443 if self._tls else 80)
        super().__init__(str(parts.hostname), port, timeout=timeout)
        self._trusted, self._ends = trusted, time.monotonic() + timeout

    @property
    def gave_up(self) -> bool:
        return time.monotonic() >= self._ends

    def connect(self) -> None:
        self.sock = connect(self.host, self.port, self._trusted, timeout=max(0.001, self._ends - time.monotonic()))
        if self._tls:
            # The handshake comes after the assignment, so that it can be ended, too.
            self.sock = self._tls.wrap_socket(self.sock, server_hostname=self.host, do_handshake_on_connect=False)
            self.sock.do_handshake()
        if self.gave_up:
            raise TimeoutError

    def give_up(self) -> None:
        """End what is under way; it raises or comes to an early end."""
        if self.sock is not None:
            with contextlib.suppress(OSError):
                self.sock.shutdown(socket.SHUT_RDWR)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _check_address(address: str, host: str, trusted: Trusted) -> None:
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address) and found in _NAT64:
        found = ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)
    elif isinstance(found, ipaddress.IPv6Address):
        found = found.ipv4_mapped or found.sixtofour or found
    if not found.is_global or found.is_multicast:
        raise ValueError(
            f"must be a public address: {host} is {address}; {trusted.setting} can name it as one that is allowed"
        )

"""An OpenAI-compatible server as the judge.

Where it is and who asks comes from the environment (`POLM_JUDGE_*`), never from a run's settings. Addresses that are
not public are refused unless `POLM_JUDGE_HOSTS` names the host (`polm_core.outbound`).
"""

import http.client
import json
import os
import re
import time
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, Self
from urllib.parse import SplitResult

from polm_core import outbound
from polm_core.errors import ConfigError
from polm_core.outbound import Trusted, hosts_of
from polm_core.rewards.judge import RUBRIC, Judge

URL, MODEL, KEY, HOSTS = "POLM_JUDGE_URL", "POLM_JUDGE_MODEL", "POLM_JUDGE_KEY", "POLM_JUDGE_HOSTS"

_PATH = "/chat/completions"
_AT_ONCE = 8
_TRIES = 3
_SECONDS = 30.0
# A reply is a number; models that think first need room for it.
_MAX_TOKENS = 1024
_NUMBER = re.compile(r"(?<![\w.])\d+(?:\.\d+)?(?!\w)")
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


def check_url(url: str, allowed_hosts: Collection[str] = ()) -> SplitResult:
    """The parts of an endpoint's address; raises `ValueError` for one that must not be asked."""
    return outbound.check_url(url, Trusted(HOSTS, allowed_hosts), example="https://api.example.com/v1")


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
        path, trusted = self._parts.path.rstrip("/") + _PATH, Trusted(HOSTS, self.endpoint.allowed_hosts)
        return outbound.post(self._parts, path, json.dumps(body).encode(), headers, trusted, seconds=self._seconds)

    def _content(self, body: bytes) -> str | None:
        try:
            content: Any = json.loads(body)["choices"][0]["message"]["content"]
        except (ValueError, LookupError, TypeError, RecursionError):
            content = None
        if isinstance(content, str):
            return content
        self.problem = "its answer is not that of an OpenAI-compatible server"
        return None

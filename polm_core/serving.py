"""Long-lived processes that speak JSON lines: a request on stdin, its answer in one or more messages on stdout.

Every message carries the request's `id`; `{"id", "error": {code, message, advice, fields}}` answers one that cannot be
served. Anything else that is printed goes to stderr.
"""

import json
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any, TextIO, TypeVar

from pydantic import BaseModel, ValidationError

from polm_core.errors import ConfigError, ModelError, PolmError

Message = dict[str, Any]
R = TypeVar("R", bound=BaseModel)


def answer(line: str, kind: type[R], serve: Callable[[R], Iterator[Message]], *, code: str) -> Iterator[Message]:
    """The messages that answer one request line; `code` is that of errors nobody foresaw. Never raises for what a
    request can get wrong."""
    try:
        yield from serve(_parse(line, kind))
    except PolmError as error:
        yield {"id": _identity(line), "error": error.as_dict()}
    except Exception as error:  # noqa: BLE001 - the process goes on and answers the next request
        yield {"id": _identity(line), "error": _unexpected(error, code).as_dict()}


def _parse(line: str, kind: type[R]) -> R:
    try:
        return kind.model_validate_json(line)
    except ValidationError as error:
        fields: dict[str, list[str]] = {}
        for problem in error.errors(include_url=False):
            fields.setdefault(".".join(str(part) for part in problem["loc"]) or "request", []).append(problem["msg"])
        named = "; ".join(f"{name}: {problems[0]}" for name, problems in fields.items())
        raise ConfigError(f"The request is not valid: {named}", fields=fields) from error


def _identity(line: str) -> str:
    """The id of a request that is not valid otherwise, as far as there is one."""
    try:
        return str(json.loads(line)["id"])
    except (ValueError, TypeError, KeyError):
        return ""


def _unexpected(error: Exception, code: str) -> PolmError:
    from polm_core.training.faults import as_polm_error

    return as_polm_error(error) or ModelError(f"{type(error).__name__}: {error}", code=code)


def serve(requests: TextIO, answers: TextIO, answer_line: Callable[[str], Iterator[Message]]) -> None:
    """Answer each line of `requests` until there are no more."""
    for line in requests:
        if line.strip():
            for message in answer_line(line):
                answers.write(json.dumps(message, ensure_ascii=False) + "\n")
                answers.flush()


def serve_stdio(answer_line: Callable[[str], Iterator[Message]]) -> None:
    """Serve stdin and stdout; what libraries print is kept out of the answers."""
    from polm_core.environment import set_environment

    set_environment()
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    serve(sys.stdin, answers, answer_line)

"""Where the streams of a process ask the database."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

from asgiref.sync import sync_to_async
from django.db import connection

T = TypeVar("T")


class Desk:
    """Answers one question after another, in one thread, over a connection that is closed when nobody waits.

    So a thousand streams hold no connection, and a thousand that come back at once do not open one each.
    """

    def __init__(self) -> None:
        # Each is counted by one thread alone: the event loop's, and the one that answers.
        self._asked = 0
        self._answered = 0

    async def ask(self, question: Callable[[], T]) -> T:
        """Call `question` where Django may use the database."""
        self._asked += 1
        # A client that leaves does not take back its question, or the count would never be even again.
        return await asyncio.shield(sync_to_async(self._answer)(question))

    def _answer(self, question: Callable[[], T]) -> T:
        try:
            return question()
        finally:
            self._answered += 1
            if self._answered == self._asked:
                connection.close()

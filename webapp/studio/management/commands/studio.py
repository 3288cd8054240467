"""`manage.py studio`: everything that one machine runs."""

import os
import signal
from argparse import ArgumentParser, ArgumentTypeError
from contextlib import suppress
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import InterfaceError, OperationalError, connection

from webapp.accounts.models import User
from webapp.accounts.selectors import first_admin
from webapp.accounts.services import sign_in_link_create
from webapp.studio.launcher import Studio
from webapp.studio.plan import CannotStart, Plan, Role
from webapp.studio.processes import ProgramGaveUp
from webapp.studio.server import ServiceError

LOOPBACK = ("127.0.0.1", "localhost", "::1")


class Command(BaseCommand):
    help = "Run the studio: database and broker unless others are configured, web process, workers and scheduler."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--host", default=os.environ.get("HOST") or "127.0.0.1", help="where to listen")
        parser.add_argument("--port", type=_port, default=os.environ.get("PORT") or "8000", help="0 takes a free one")
        parser.add_argument("--no-embedded", action="store_true", help="start no database and no broker")
        part = parser.add_mutually_exclusive_group()
        for role in (Role.WEB, Role.WORKER, Role.SCHEDULER):
            part.add_argument(
                f"--{role}-only", dest="role", action="store_const", const=role, help=f"run nothing but the {role}"
            )
        parser.set_defaults(role=Role.ALL)

    def handle(self, *args: Any, **options: Any) -> None:
        plan = Plan(options["role"], not options["no_embedded"], options["host"], options["port"])
        try:
            studio = Studio(plan, say=self._say, ready=lambda address: self._ready(address, plan.host))
            stop_on_signals(studio)
            studio.run()
        except (CannotStart, ServiceError, ProgramGaveUp) as error:
            raise CommandError(str(error)) from None

    def _say(self, line: str) -> None:
        with suppress(OSError):  # a terminal that was closed must not keep anything from being stopped
            self.stdout.write(line)
            self.stdout.flush()

    def _ready(self, address: str, host: str) -> None:
        if not address:
            self._say("PoLM Studio runs, without a web process here.")
            return
        self._say(f"PoLM Studio runs at {address}")
        try:
            link = first_sign_in(address)
        except (OperationalError, InterfaceError):  # it has just died, and is about to be started again
            link = ""
        self._say(f"Sign in, once: {link}" if link else "A new sign-in link: python manage.py sign_in_link")
        if host not in LOOPBACK:
            self._say(f"Other machines must call it by a name in ALLOWED_HOSTS: {', '.join(settings.ALLOWED_HOSTS)}")


def stop_on_signals(studio: Studio) -> None:
    """Have the studio stop when it is told to, or when its terminal goes away, unless `nohup` says to outlive that."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, lambda *_: studio.ask_to_stop())


def first_sign_in(address: str) -> str:
    """A one-time sign-in link for the first admin; empty when somebody has signed in before."""
    try:
        admin = first_admin()
        if admin is None or User.objects.exclude(last_login=None).exists():
            return ""
        return f"{address}/welcome/{sign_in_link_create(user=admin)}"
    finally:
        connection.close()


def _port(text: str) -> int:
    if not text.isdigit() or int(text) > 65535:
        raise ArgumentTypeError(f"{text!r} is not a port: give a number from 0 to 65535")
    return int(text)

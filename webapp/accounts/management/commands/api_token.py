"""`manage.py api_token <username>`: a new API token, alone on stdout."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from polm_core.errors import PolmError
from webapp.accounts.access import Actor
from webapp.accounts.selectors import active_user
from webapp.accounts.services import admin_ensure, token_create


class Command(BaseCommand):
    help = "Prints a new API token of a user, and nothing else, on stdout."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("username")
        parser.add_argument(
            "--create-admin", action="store_true", help="first make this user, an admin of the starter team"
        )

    def handle(self, *args: Any, username: str, create_admin: bool, **options: Any) -> None:
        try:
            user = admin_ensure(username=username) if create_admin else active_user(username)
            _, text = token_create(actor=Actor(user), name="made by api_token")
        except PolmError as error:
            problems = [problem for problems in error.fields.values() for problem in problems]
            raise CommandError(" ".join([error.message, error.advice, *problems])) from None
        self.stdout.write(text)

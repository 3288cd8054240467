"""`manage.py sign_in_link [username]`: a link that signs somebody in once."""

from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.urls import reverse

from webapp.accounts.selectors import active_user, first_admin
from webapp.accounts.services import admin_ensure, sign_in_link_create
from webapp.errors import NotFound


class Command(BaseCommand):
    help = "Prints a link that signs a user in once, within 24 hours: the first admin unless a name is given."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("username", nargs="?")
        parser.add_argument("--address", default=settings.PUBLIC_URL, help="where the studio answers (%(default)s)")

    def handle(self, *args: Any, username: str | None, address: str, **options: Any) -> None:
        try:
            user = active_user(username) if username else first_admin() or admin_ensure()
        except NotFound as error:
            raise CommandError(f"{error.message} {error.advice}") from None
        path = reverse("sign-in-link", args=[sign_in_link_create(user=user)])
        self.stdout.write(address.rstrip("/") + path)

"""The ASGI application: Django, with the live streams answered beside it."""

import os

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "webapp.settings")
django.setup(set_prefix=False)

from webapp.bodies import BoundedASGIHandler  # noqa: E402 (needs the app registry)
from webapp.live.asgi import with_streams  # noqa: E402

application = with_streams(BoundedASGIHandler())

"""The ASGI application: Django, with the live streams answered beside it."""

import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "webapp.settings")
django_application = get_asgi_application()

from webapp.live.asgi import with_streams  # noqa: E402 (needs the app registry)

application = with_streams(django_application)

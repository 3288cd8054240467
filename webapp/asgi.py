"""The ASGI application: Django, with the live streams answered beside it."""

import gc
import os

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "webapp.settings")
django.setup(set_prefix=False)

from django.urls import get_resolver  # noqa: E402 (needs the app registry)

from webapp.bodies import BoundedASGIHandler  # noqa: E402
from webapp.live.asgi import with_streams  # noqa: E402

application = with_streams(BoundedASGIHandler())

# What is loaded by now, the views included, stays: now and then the collector would go through all of it, and hold up a
# request for a tenth of a second.
list(get_resolver().url_patterns)
gc.collect()
gc.freeze()

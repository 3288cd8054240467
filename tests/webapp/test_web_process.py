"""What the web process loads, and what it costs at rest."""

import os
import subprocess
import sys

from django.conf import settings

_START = """
import sys
import psutil
import webapp.asgi
import webapp.urls
from django.urls import get_resolver
get_resolver().url_patterns
heavy = {"torch", "transformers", "trl", "peft", "accelerate", "datasets", "pyarrow", "pandas", "workers"}
heavy |= {"reasoning_gym", "sympy", "optuna"}
print(sorted(heavy & set(sys.modules)))
print(psutil.Process().memory_info().rss // 1024**2)
"""


def test_the_web_process_never_loads_torch_and_stays_small() -> None:
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "webapp.settings"}
    done = subprocess.run(
        [sys.executable, "-c", _START],
        capture_output=True,
        text=True,
        check=True,
        cwd=settings.BASE_DIR,
        env=environment,
    )
    loaded, megabytes = done.stdout.splitlines()[-2:]
    assert loaded == "[]"
    assert int(megabytes) < 150

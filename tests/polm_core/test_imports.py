"""What the library's sides may load."""

import subprocess
import sys

import pytest

HEAVY = ("torch", "transformers", "trl", "peft", "datasets", "pyarrow", "django", "celery", "webapp", "workers")


@pytest.mark.parametrize(
    "module", ["polm_core.catalogue", "polm_core.context", "polm_core.run_dir", "polm_core.run", "polm_core.__main__"]
)
def test_the_schema_side_loads_no_torch_and_no_web(module: str) -> None:
    program = f"import {module}, sys; print(*(name for name in {HEAVY!r} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


@pytest.mark.filterwarnings("default")
def test_preloading_loads_what_runs_need_and_starts_no_python_thread() -> None:
    program = (
        "from polm_core.run import preload; preload(); import sys, threading;"
        "print(threading.active_count(), all(name in sys.modules for name in ('torch', 'trl', 'peft', 'datasets')))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1", "True"]

"""Making the peers' environments and running their scripts."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.bench.database import BENCH

REQUIREMENTS = {
    "mlflow": ["mlflow==3.17.2", "psycopg2-binary"],
    "trackio": ["trackio==0.43.*"],
    "aim": ["aim==3.29.*"],
    "tensorboard": ["tensorboard==2.21.*"],
}


def python_of(peer: str) -> Path:
    """The interpreter of a peer's environment, made on first use."""
    home = BENCH / peer
    ready = home / ".ready"
    if not ready.exists():
        subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
        pip = [str(home / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, *REQUIREMENTS[peer]], check=True)
        ready.touch()
    return home / "bin" / "python"


def call(peer: str, *arguments: Any) -> dict[str, Any]:
    """Run a peer's script and return the JSON of its last line."""
    script = Path(__file__).with_name(f"{peer}_peer.py")
    command = [str(python_of(peer)), str(script), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=BENCH)
    if done.returncode:
        raise RuntimeError(f"{peer} failed:\n{done.stderr[-2000:]}")
    answer: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return answer

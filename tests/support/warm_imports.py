"""What the process imports from which `warm` forks."""

from polm_core.run import preload

preload()

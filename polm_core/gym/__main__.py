"""`PYTHONHASHSEED=0 python -m polm_core.gym`: print `tasks.json` as the installed library has it."""

import sys

from polm_core.gym.library import read_table

sys.stdout.write(read_table().model_dump_json(indent=1) + "\n")

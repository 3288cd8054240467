"""The settings of a test session: the product's own, with all state in a directory that is removed at the end."""

import os

from tests.support.services import session_state_dir

os.environ["POLM_VAR"] = str(session_state_dir())
# A second thread makes tiny models no faster, and on a busy machine many times slower: each waits for the other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from webapp.settings import *  # noqa: F403

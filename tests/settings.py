"""The settings of a test session: the product's own, with all state in a directory that is removed at the end."""

import os

from tests.support.services import session_state_dir

os.environ["POLM_VAR"] = str(session_state_dir())

from webapp.settings import *  # noqa: F403

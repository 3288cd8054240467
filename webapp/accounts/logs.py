"""What must not stand in logs: the secrets that links and headers carry."""

import logging
import re

_LINK = re.compile(r"(/(?:welcome|join|shared)/)[^/?\s\"']+")
_TOKEN = re.compile(r"\bpolm_[\w-]{20,}")


class HideSecrets(logging.Filter):
    """Blanks the secret of one-time, invitation and share links, and API tokens, in every message."""

    def filter(self, record: logging.LogRecord) -> bool:
        message = record.getMessage()
        record.msg = _TOKEN.sub("polm_…", _LINK.sub(r"\1…", message))
        record.args = ()
        return True

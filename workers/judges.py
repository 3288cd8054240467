"""Where a process may ask for judgements: the team's own endpoint, or the one in this worker's environment."""

import uuid
from collections.abc import Mapping
from typing import Any

from polm_core.rewards.endpoint import KEY, MODEL, URL
from webapp.accounts.judges import judge_endpoint_get
from webapp.runs.scoring import asks_for_endpoint


def judge_env(team_id: uuid.UUID, config: Mapping[str, Any]) -> dict[str, str]:
    """What a process with these settings needs in its environment to ask the team's endpoint.

    The studio's key is never sent to a team's address: each of the three is the team's, be it empty.
    """
    endpoint = judge_endpoint_get(team_id=team_id) if asks_for_endpoint(config) else None
    return {URL: endpoint.url, MODEL: endpoint.model, KEY: endpoint.key} if endpoint else {}

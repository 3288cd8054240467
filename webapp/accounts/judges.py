"""The endpoint that a team's judge is asked at: address, model and key, kept together as one secret of the team."""

import json
import re
import uuid

from django.conf import settings

from polm_core.outbound import hosts_of
from polm_core.rewards.endpoint import Endpoint, check_url
from webapp.accounts.access import Actor
from webapp.accounts.models import Team, TeamSecret
from webapp.accounts.services import secret_get, secret_keep
from webapp.errors import Invalid

JUDGE_ENDPOINT = "judge_endpoint"


def judge_endpoint_set(*, actor: Actor, team: Team, url: str, model: str, key: str = "") -> TeamSecret:
    """Keep where the team's judge is asked, encrypted; it is never shown again. Raises Invalid.

    Workers look at the address once more when they connect to it: what a name leads to may change.
    """
    fields: dict[str, list[str]] = {}
    try:
        check_url(url, hosts_of(settings.JUDGE_HOSTS))
    except ValueError as error:
        fields["url"] = [f"The address {error}."]
    if not re.fullmatch(r"[!-~]{1,200}", model):
        fields["model"] = ["Give the name that the endpoint knows the model by: up to 200 characters without spaces."]
    if not re.fullmatch(r"[!-~]{0,500}", key):
        fields["key"] = ["Paste the key alone: up to 500 characters without spaces."]
    if fields or len(url) > 500:
        raise Invalid("This endpoint is not accepted.", fields=fields or {"url": ["The address is too long."]})
    value = json.dumps({"url": url, "model": model, "key": key})
    return secret_keep(actor=actor, team=team, name=JUDGE_ENDPOINT, value=value)


def judge_endpoint_get(*, team_id: uuid.UUID) -> Endpoint | None:
    """The team's endpoint, for workers alone; None when it has none. Raises Invalid after a change of SECRET_KEY."""
    value = secret_get(team_id=team_id, name=JUDGE_ENDPOINT)
    return Endpoint(**json.loads(value)) if value is not None else None

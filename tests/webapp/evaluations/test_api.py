"""Results and the leaderboard over REST."""

from tests.support.api import ApiClient
from tests.support.checkpoints import make_base_model, make_checkpoint
from tests.support.results import figure_of, make_results
from webapp.accounts.models import Team
from webapp.registry.models import BaseModel, ModelSource

HALF, MOST = [1.0, 0.0] * 10, [1.0, 0.0, 1.0, 1.0] * 5


def test_the_leaderboard_of_a_project(api: ApiClient, team: Team) -> None:
    base, other = make_base_model(team, "base"), make_base_model(team, "other")
    (first,) = make_results(team, base, figure_of(HALF))
    make_results(team, other, figure_of(MOST))
    found = api.get(f"/leaderboard?project=experiments&baseline={base.pk}").json()
    (column,) = found["columns"]
    assert (column["metric"], column["method"], column["better"]) == ("accuracy", "eval-accuracy", "higher")
    assert [(row["name"], row["cells"][0]["value"], row["cells"][0]["best"]) for row in found["rows"]] == [
        ("other", 0.75, True),
        ("base", 0.5, False),
    ]
    change = found["rows"][0]["cells"][0]["change"]
    assert (change["value"], change["paired"], change["rows"]) == (0.25, True, 20)
    assert found == api.get(f"/leaderboard?project={first.run.project_id}&baseline={base.pk}").json()


def test_what_the_leaderboard_cannot_show_is_said(api: ApiClient, team: Team) -> None:
    make_results(team, make_base_model(team), figure_of(HALF))
    assert api.get("/leaderboard?project=nothing").status_code == 404
    for query, field in (("sort=colour", "sort"), (f"baseline={team.pk}", "baseline")):
        refused = api.get(f"/leaderboard?{query}")
        assert refused.status_code == 422
        assert field in refused.json()["error"]["fields"]


def test_a_model_tells_its_results_newest_first_and_those_of_one_s_teams_alone(
    api: ApiClient, team: Team, other_team: Team
) -> None:
    starter = BaseModel.objects.create(name="starter", source=ModelSource.STARTER)
    make_results(team, starter, figure_of(HALF))
    make_results(team, starter, figure_of(MOST))
    make_results(other_team, starter, figure_of([0.0]))
    results = api.get("/models/starter").json()["results"]
    assert [one["value"] for one in results] == [0.75, 0.5]
    assert (results[0]["metric"], results[0]["rows"], results[0]["method"]) == ("accuracy", 20, "eval-accuracy")


def test_a_checkpoint_tells_what_was_measured_of_it(api: ApiClient, team: Team) -> None:
    checkpoint = make_checkpoint(team)
    model = BaseModel.objects.create(team=team, name="it", source=ModelSource.CHECKPOINT, checkpoint=checkpoint)
    make_results(team, model, figure_of(HALF))
    for path in (f"/checkpoints/{checkpoint.pk}", f"/models/{model.pk}"):
        assert [one["value"] for one in api.get(path).json()["results"]] == [0.5]


def test_evaluations_are_listed_apart_from_methods(api: ApiClient) -> None:
    listed = {one["slug"] for one in api.get("/evaluations").json()}
    assert {"eval-loss", "eval-accuracy"} <= listed
    assert not listed & {one["slug"] for one in api.get("/methods").json()}
    one = api.get("/methods/eval-loss").json()
    assert (one["paradigm"], one["makes_checkpoints"]) == (None, False)

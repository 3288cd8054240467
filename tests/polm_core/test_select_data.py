"""Choosing rows by what the starting model makes of them: the scores, the choice, and that none is computed twice."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from polm_core import catalogue
from polm_core.blocks import TrainConfig
from polm_core.context import ModelSpec, load_spec
from polm_core.errors import ConfigError, DataError
from polm_core.formats import Format
from polm_core.methods.efficiency.select_data import SelectDataConfig, kept_places, score_rows
from polm_core.preflight import preflight
from polm_core.run import EXIT_FAILED, execute
from polm_core.training.encoding import encode_rows
from polm_core.training.loading import load_model
from tests.polm_core.conftest import MakeRun, points, samples
from tests.support import tiny


@pytest.mark.train
@pytest.mark.filterwarnings("default")
def test_scores_are_the_losses_of_each_row_by_itself(tiny_model: Path, tokenizer: Any) -> None:
    """Rows of a batch, some with several answers, against one row at a time and trl's own way to the loss."""
    import torch

    rows = list(encode_rows(tokenizer, tiny.conversations(5), Format.CONVERSATION, "answers"))
    model = load_model(ModelSpec(path=tiny_model), TrainConfig()).eval()

    def loss(ids: list[int], labels: list[int]) -> float:
        with torch.no_grad():
            return float(model(input_ids=torch.tensor([ids]), labels=torch.tensor([labels])).loss)

    after_prompt = [
        loss(row.input_ids, [token if on else -100 for token, on in zip(row.input_ids, row.trained, strict=True)])
        for row in rows
    ]
    answers = [[token for token, on in zip(row.input_ids, row.trained, strict=True) if on] for row in rows]
    alone = [loss(answer, answer) for answer in answers]
    perplexities = score_rows(model, rows, SelectDataConfig(score="perplexity"))
    assert perplexities == pytest.approx([math.exp(value) for value in after_prompt], rel=1e-4)
    difficulties = score_rows(model, rows, SelectDataConfig(score="ifd"))
    assert difficulties == pytest.approx([a / b for a, b in zip(after_prompt, alone, strict=True)], rel=1e-4)


@pytest.mark.parametrize(
    ("settings", "kept"),
    [
        ({"keep_share": 0.5}, [1, 4, 5]),
        ({"keep_share": 0.5, "keep_from": "low"}, [0, 3, 5]),
        ({"keep_share": 0.3, "keep_from": "middle"}, [3, 5]),
        ({"keep_share": 1}, [0, 1, 3, 4, 5]),
        ({"keep_share": 0.01}, [4]),
        ({"keep_share": 0.3, "score": "perplexity"}, [2, 4]),
    ],
)
def test_a_share_of_the_rows_is_kept_in_their_order(settings: dict[str, Any], kept: list[int]) -> None:
    scores = [0.1, 0.8, 1.5, 0.2, 0.9, 0.3, None, math.nan]
    assert kept_places(scores[:6], SelectDataConfig(**settings)) == kept
    assert not {6, 7} & set(kept_places(scores, SelectDataConfig(**settings)))


def test_rows_that_say_nothing_end_the_run_with_advice() -> None:
    with pytest.raises(DataError, match="the prompt helps") as caught:
        kept_places([1.2, 1.0, None], SelectDataConfig())
    assert "perplexity" in caught.value.advice
    with pytest.raises(DataError, match="No row has an answer") as caught:
        kept_places([None, None], SelectDataConfig())
    assert "max_length" in caught.value.advice


@pytest.mark.train
@pytest.mark.filterwarnings("default")
def test_only_what_is_kept_is_trained_on_and_nothing_is_scored_twice(make_run: MakeRun) -> None:
    settings = {"score": "perplexity", "max_steps": 0, "epochs": 1, "save_steps": 1, "eval_steps": 0}
    run_dir = make_run("select-data", **settings)
    assert execute(run_dir.root) == 0
    assert points(run_dir, "loss").keys() == {1, 2, 3}, "11 of 22 rows in batches of 4"
    assert preflight(load_spec(run_dir.config)).steps == 3
    assert points(run_dir, "made/kept") == {0: 0.5}
    assert points(run_dir, "made/score/kept")[0] > points(run_dir, "made/score")[0]
    shown = [sample for sample in samples(run_dir) if "note" in sample]
    kept = [sample["reward"] for sample in shown if sample["note"] == "Kept"]
    left_out = [sample["reward"] for sample in shown if sample["note"] == "Left out"]
    assert (len(kept), len(left_out)) == (11, 11)
    assert min(kept) >= max(left_out)
    # Scores that are there are taken as they are: with others, other rows are kept.
    lines = run_dir.made.read_text().splitlines()
    turned = [json.dumps({**json.loads(line), "score": -json.loads(line)["score"]}) for line in lines[1:]]
    again = make_run("select-data", name="again", **settings)
    again.made.write_text("\n".join([lines[0], *turned]) + "\n")
    assert execute(again.root) == 0
    others = {sample["prompt"] for sample in samples(again) if sample.get("note") == "Kept"}
    assert others == {sample["prompt"] for sample in shown if sample["note"] == "Left out"}


@pytest.mark.train
@pytest.mark.filterwarnings("default")
def test_a_run_whose_answers_are_cut_away_is_refused(make_run: MakeRun) -> None:
    run_dir = make_run("select-data", max_length=8)
    assert [entry.code for entry in preflight(load_spec(run_dir.config)).blocking] == ["data.untrained"]
    assert execute(run_dir.root) == EXIT_FAILED
    result = run_dir.read_result()
    assert result is not None
    assert result.error is not None
    assert result.error["code"] == "data.untrained"


def test_one_process_scores_the_rows() -> None:
    with pytest.raises(ConfigError) as caught:
        catalogue.get("select-data").parse({"processes": 2})
    assert "must be 1" in caught.value.fields["config.processes"][0]

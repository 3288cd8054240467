"""What every row of the catalogue must do: describe itself, train, save what can be loaded, and resume exactly."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image
from pydantic import BaseModel

from polm_core.blocks import TrainConfig
from polm_core.catalogue import EVALUATIONS, METHODS, TAXONOMY, get
from polm_core.context import ModelSpec
from polm_core.evaluation.results import read_figures
from polm_core.formats import Format
from polm_core.method import BAND_ENDS, EVALUATION, Method
from polm_core.methods.efficiency.compressing import CompressConfig
from polm_core.rewards.config import REWARD_NAMES, AskingConfig
from polm_core.run import execute
from polm_core.run_dir import Outcome, RunDir, Wish, verify_checkpoint
from polm_core.training.encoding import encode_steps
from polm_core.training.loading import load_reward_model, load_step_judge, load_tokenizer
from polm_core.training.sampling import GENERATED
from polm_core.training.scoring import judge_steps, score
from tests.polm_core.conftest import MakeRun, points, samples, watching
from tests.support import tiny

ALL = (*METHODS, *EVALUATIONS)
METHOD_CASES = [pytest.param(method, id=method.slug) for method in ALL]
every_method = pytest.mark.parametrize("method", METHOD_CASES)
every_training_method = pytest.mark.parametrize(
    "method", [pytest.param(method, id=method.slug) for method in METHODS if method.trains]
)
every_compressing_method = pytest.mark.parametrize(
    "method",
    [pytest.param(method, id=method.slug) for method in METHODS if issubclass(method.config, CompressConfig)],
)
every_untrained_method = pytest.mark.parametrize(
    "method",
    [
        pytest.param(method, id=method.slug)
        for method in METHODS
        if method.makes_checkpoints and not method.trains and not issubclass(method.config, CompressConfig)
    ],
)
every_other_method = pytest.mark.parametrize(
    "method", [pytest.param(method, id=method.slug) for method in ALL if not method.makes_checkpoints]
)


def test_slugs_are_unique() -> None:
    assert len({method.slug for method in ALL}) == len(ALL)


@every_method
def test_describes_itself(method: Method) -> None:
    for text in (method.title, method.summary, method.when, method.paper.title):
        assert text
        assert "\n" not in text
    assert method.paper.url.startswith("https://arxiv.org/abs/")
    assert (method.paradigm, method.branch) in {(branch.paradigm, branch.title) for branch in TAXONOMY} | {
        (None, EVALUATION.title)
    }
    assert method.formats or method.merges
    assert 5 <= len(method.main_fields) <= 7


@every_method
def test_its_page_has_something_to_say(method: Method) -> None:
    lacking = [name for name in ("objective", "formula", "watch") if not getattr(method, name)]
    for chart in method.charts:
        lacking += [f"{chart.title}: {name}" for name in ("keys", "unit", "how_to_read") if not getattr(chart, name)]
        if chart.bound is None and any(key.rpartition("/")[2] == "kl" for key in chart.keys):
            lacking.append(f"{chart.title}: bound, the divergence beyond which a run is warned")
    assert not lacking, f"{method.slug} lacks {', '.join(lacking)}"
    assert len({chart.title for chart in method.charts}) == len(method.charts)
    for text in (method.objective, *method.watch, *(chart.how_to_read for chart in method.charts)):
        assert text.endswith(".")
        assert "\n" not in text


@every_method
def test_settings_have_help_groups_and_defaults(method: Method) -> None:
    leaves = dict(_leaves(method.config_schema()))
    defaults = dict(_flat(method.default_config()))
    assert set(method.main_fields) <= set(leaves)
    for name, entry in leaves.items():
        assert len(entry.get("description", "")) > 10, name
        assert entry.get("group"), name
        assert entry["default"] == defaults[name], name


@every_method
def test_default_settings_are_valid_and_written_settings_parse_back(method: Method) -> None:
    written = method.default_config()
    assert method.parse(written).model_dump(mode="json") == written


@every_method
def test_numbers_are_bounded(method: Method) -> None:
    for name, entry in _leaves(method.config_schema()):
        if entry.get("type") in {"integer", "number"}:
            assert {"minimum", "exclusiveMinimum"} & entry.keys(), name
            assert {"maximum", "exclusiveMaximum"} & entry.keys(), name


@pytest.mark.train
@pytest.mark.filterwarnings("default")
@every_training_method
def test_trains_saves_and_resumes_exactly(
    method: Method, make_run: MakeRun, tiny_model: Path, tiny_model_with_biases: Path
) -> None:
    base = tiny_model_with_biases if method.slug == "bitfit" else tiny_model
    start = {"model": {"path": str(base), "name": "tiny"}}
    settings = {"save_steps": 2, "eval_steps": 2, "format": method.formats[0], **_small(method)}
    run_dir = make_run(method.slug, spec=start, **settings)
    assert execute(run_dir.root) == 0

    result = run_dir.read_result()
    assert result is not None
    assert result.outcome is Outcome.SUCCEEDED
    assert result.metrics
    assert all(math.isfinite(value) for value in result.metrics.values())
    assert sorted(points(run_dir, "loss")) == [1, 2, 3, 4]
    held_out = [key for key in method.charts[0].keys if key.startswith("eval/")]
    assert held_out
    assert [sorted(points(run_dir, key)) for key in held_out] == [[0, 2, 4]] * len(held_out)
    assert _never_logged(method, run_dir) == []
    answered = [sample for sample in samples(run_dir) if "advantage" not in sample]
    assert {sample["step"] for sample in answered} == {0, 2, 4}
    progress = run_dir.read_progress()
    assert progress is not None
    assert (progress.step, progress.total_steps, progress.phase) == (4, 4, "done")
    assert progress.tokens > 0

    checkpoints = list(run_dir.complete_checkpoints())
    assert [manifest.step for _, manifest in checkpoints] == [2, 4]
    assert not (run_dir.checkpoints / ".draft").exists()
    folder, manifest = checkpoints[-1]
    assert verify_checkpoint(folder) == manifest
    assert (manifest.method, manifest.base_model) == (method.slug, "tiny")
    assert "loss" in manifest.metrics
    assert {"optimizer.pt", "trainer_state.json"} <= set(manifest.trainer_state)
    assert manifest.task == {"reward-model": "reward", "prm": "steps"}.get(method.slug, "language")
    assert _does_its_task(folder, base, manifest.task)

    resumed = make_run(method.slug, name="resumed", spec={**start, "resume": str(checkpoints[0][0])}, **settings)
    assert execute(resumed.root) == 0
    assert sorted(points(resumed, "loss")) == [3, 4]
    assert points(resumed, "num_tokens")[4] == points(run_dir, "num_tokens")[4]
    assert _weights(resumed) == _weights(run_dir)


@every_method
def test_how_fast_answers_are_written_has_one_name(method: Method) -> None:
    speeds = {key for chart in method.charts if chart.unit == "tokens per second" for key in chart.keys}
    assert speeds <= {GENERATED}
    assert speeds or not issubclass(method.config, AskingConfig), "what writes answers tells how fast"


@every_method
def test_what_trains_makes_checkpoints(method: Method) -> None:
    assert method.makes_checkpoints or not method.trains


@pytest.mark.train
@pytest.mark.filterwarnings("default")
@every_compressing_method
def test_measures_before_and_after_and_comes_to_the_same_wherever_it_was_interrupted(
    method: Method, make_run: MakeRun, tiny_model: Path
) -> None:
    settings = {"format": method.formats[0], "generation": {"max_new_tokens": 4}, "max_length": 256}
    whole = make_run(method.slug, **settings)
    phases: list[str] = []
    with watching(whole, phases.append):
        assert execute(whole.root) == 0
    result = whole.read_result()
    assert result is not None
    assert result.outcome is Outcome.SUCCEEDED
    assert all(math.isfinite(value) for value in result.metrics.values())
    drawn = [key for chart in method.charts for key in chart.keys if key != "loss"]
    assert {tuple(sorted(points(whole, key))) for key in drawn} == {(0, 1)}
    assert {sample["step"] for sample in samples(whole)} == {0, 1}
    progress = whole.read_progress()
    assert progress is not None
    assert (progress.step, progress.total_steps, progress.phase) == (1, 1, "done")
    ((folder, manifest),) = whole.complete_checkpoints()
    assert verify_checkpoint(folder) == manifest
    assert (manifest.step, manifest.kind, manifest.method, manifest.base_model) == (1, "model", method.slug, "tiny")
    assert manifest.metrics["eval/perplexity"] == points(whole, "eval/perplexity")[1]
    assert not (whole.checkpoints / ".draft").exists()
    assert _does_its_task(folder, tiny_model, manifest.task)

    broken = make_run(method.slug, name="broken", **settings)
    reached: set[str] = set()
    for phase in phases:
        if phase in ("", "done", "saving"):
            continue
        broken.control.unlink(missing_ok=True)
        with watching(broken, lambda now, last=phase: broken.ask(Wish.PAUSE) if now == last else None):
            assert execute(broken.root) == 0
        result = broken.read_result()
        assert result is not None
        if result.outcome is Outcome.SUCCEEDED:
            break
        assert result.outcome is Outcome.PAUSED
        assert list(broken.complete_checkpoints()) == []
        reached.add(phase)
    assert reached
    broken.control.unlink(missing_ok=True)
    assert execute(broken.root) == 0
    assert _tensors(broken) == _tensors(whole)
    assert points(broken, "eval/loss") == points(whole, "eval/loss")


@pytest.mark.train
@pytest.mark.filterwarnings("default")
@every_untrained_method
def test_changes_weights_without_training(method: Method, make_run: MakeRun, tiny_model: Path) -> None:
    run_dir = make_run(method.slug, format=next(iter(method.formats), None), **_small(method))
    assert execute(run_dir.root) == 0
    step = _whole(method, run_dir)
    ((folder, manifest),) = run_dir.complete_checkpoints()
    assert verify_checkpoint(folder) == manifest
    assert (manifest.step, manifest.method, manifest.base_model) == (step, method.slug, "tiny")
    assert _answers(folder)
    again = make_run(method.slug, name="again", format=next(iter(method.formats), None), **_small(method))
    assert execute(again.root) == 0
    assert _weights(again) == _weights(run_dir)
    assert sorted(path.name for path in run_dir.root.iterdir() if path.name.startswith(".")) == []


@pytest.mark.train
@pytest.mark.filterwarnings("default")
@every_other_method
def test_measures_and_goes_on_through_what_it_has_made(method: Method, make_run: MakeRun) -> None:
    settings = {"format": method.formats[0], **_small(method)}
    run_dir = make_run(method.slug, **settings)
    assert execute(run_dir.root) == 0
    _whole(method, run_dir)
    assert bool(read_figures(run_dir.figures)) == method.is_evaluation
    assert list(run_dir.complete_checkpoints()) == []

    resumed = make_run(method.slug, name="resumed", **settings)
    head, first, *_ = run_dir.made.read_text().splitlines(keepends=True)
    resumed.made.write_text(head + first)
    assert execute(resumed.root) == 0
    assert resumed.made.read_text() == run_dir.made.read_text()
    for key in (key for chart in method.charts for key in chart.keys if not key.startswith("system/")):
        assert points(resumed, key) == points(run_dir, key)


@pytest.mark.train
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(
    "method",
    [
        pytest.param(get(slug), id=slug)
        for slug in (
            *("reft", "reward-model", "ppo", "rloo", "online-dpo", "nash-md", "xpo", "kto", "bco", "cpo"),
            *("rlaif", "constitutional-ai", "prm", "grpo", "bnpo", "rejection-sampling", "self-refine"),
            *("distill", "seq-kd", "minillm", "gold", "select-data"),
        )
    ],
)
def test_trains_an_adapter_and_resumes_it_exactly(method: Method, make_run: MakeRun, tiny_model: Path) -> None:
    settings = {"save_steps": 2, "eval_steps": 0, "format": method.formats[0], "adapter": {"type": "lora"}}
    settings |= _small(method)
    whole = make_run(method.slug, **settings)
    assert execute(whole.root) == 0
    (half, _), (folder, manifest) = whole.complete_checkpoints()
    assert manifest.kind == "adapter"
    assert _does_its_task(folder, tiny_model, manifest.task)
    resumed = make_run(method.slug, name="resumed", spec={"resume": str(half)}, **settings)
    assert execute(resumed.root) == 0
    assert _weights(resumed) == _weights(whole)


def _never_logged(method: Method, run_dir: RunDir) -> list[str]:
    """The metrics of the method's charts that a run has not logged, apart from rewards that it gave no weight."""
    config = get(method.slug).parse(yaml.safe_load(run_dir.config.read_text())["config"])
    weights = config.rewards.weights if isinstance(config, AskingConfig) else {}
    names = [name for name in REWARD_NAMES if name not in weights]
    idle = {f"{side}reward/{name}{part}" for name in names for side in ("", "eval/") for part in ("", "/not_judged")}
    # What only a process reward model gives.
    idle |= {"accuracy/prm", *(f"accuracy/prm/{end}" for end in BAND_ENDS)}
    logged = {key for line in run_dir.metrics.read_text().splitlines() for key in json.loads(line)["values"]}
    drawn = [key for chart in method.charts for key in (*chart.keys, *chart.band_keys)]
    return [key for key in drawn if key not in logged | idle]


def _whole(method: Method, run_dir: RunDir) -> int:
    """The last step of a run that came to its end, with finite figures and all that its charts draw."""
    result = run_dir.read_result()
    assert result is not None
    assert result.outcome is Outcome.SUCCEEDED
    assert all(math.isfinite(value) for value in result.metrics.values())
    assert _never_logged(method, run_dir) == []
    progress = run_dir.read_progress()
    assert progress is not None
    assert (progress.step, progress.phase) == (progress.total_steps, "done")
    return progress.step


def _small(method: Method) -> dict[str, Any]:
    """What fits four steps on a few short rows."""
    if method.slug == "reft":
        return {"sft_steps": 2}
    if method.slug == "constitutional-ai":
        # What it logs when trained on revisions, it logs here too.
        return {"train_on": "pairs"}
    if method.slug in ("rejection-sampling", "self-refine"):
        # What a model that is as small writes is seldom short enough to earn all.
        return {"min_reward": 0.2}
    if method.slug == "knowledge-edit":
        return {"max_edits": 3, "stats_tokens": 64}
    if method.slug == "eval-winrate":
        return {"rewards": {"judge": 0, "length": 1, "length_max": 10}}
    if method.slug == "test-time-scaling":
        return {"num_samples": 3}
    # Plain text is packed, so the few short rows need short sequences.
    return {"max_length": 64, "batch_size": 2} if method.formats[:1] == (Format.TEXT,) else {}


def _does_its_task(folder: Path, base: Path, task: str) -> bool:
    """Whether the checkpoint writes or scores, loaded as a later method would load it."""
    if task == "language":
        return bool(_answers(folder))
    is_adapter = (folder / "adapter_config.json").is_file()
    spec = ModelSpec(path=base, adapter=folder) if is_adapter else ModelSpec(path=folder)
    return bool(_scores(spec) if task == "reward" else _judged_steps(spec))


def _scores(spec: ModelSpec) -> list[float]:
    """What a reward model gives two answers."""
    rewards = score(load_reward_model(spec, TrainConfig()).eval(), load_tokenizer(spec), [[5, 6, 7], [8, 9]])
    assert len({round(reward, 6) for reward in rewards}) == 2
    assert all(math.isfinite(reward) for reward in rewards)
    return rewards


def _judged_steps(spec: ModelSpec) -> list[list[float]]:
    """How right a process reward model finds the steps of two answers."""
    tokenizer = load_tokenizer(spec)
    sequences = [encoded for (encoded,) in encode_steps(tokenizer, tiny.steps(2), wrap=True)]
    odds = judge_steps(load_step_judge(spec, TrainConfig()).eval(), tokenizer, sequences)
    assert [len(steps) for steps in odds] == [2, 2]
    assert all(0 < chance < 1 for steps in odds for chance in steps)
    assert len({round(chance, 6) for steps in odds for chance in steps}) > 1
    return odds


def _answers(folder: Path) -> str:
    """What the checkpoint says, loaded as anyone would load it."""
    from peft import AutoPeftModelForCausalLM
    from transformers import AutoModelForCausalLM, AutoTokenizer

    if (folder / "processor_config.json").is_file():
        return _answers_about_an_image(folder)
    is_adapter = (folder / "adapter_config.json").is_file()
    loader = AutoPeftModelForCausalLM if is_adapter else AutoModelForCausalLM
    model = loader.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": "What is 1 + 1?"}],
        add_generation_prompt=True,
        return_tensors="pt",
        return_dict=True,
    )
    output = model.generate(**prompt, max_new_tokens=4, min_new_tokens=4, do_sample=False)
    return str(tokenizer.decode(output[0]))


def _answers_about_an_image(folder: Path) -> str:
    from transformers import AutoModelForImageTextToText, AutoProcessor

    processor, model = AutoProcessor.from_pretrained(folder), AutoModelForImageTextToText.from_pretrained(folder)
    asked = [{"type": "image", "image": Image.new("RGB", (40, 20))}, {"type": "text", "text": "Which colour?"}]
    prompt = processor.apply_chat_template(
        [{"role": "user", "content": asked}],
        add_generation_prompt=True,
        tokenize=True,
        return_tensors="pt",
        return_dict=True,
    )
    output = model.generate(**prompt, max_new_tokens=4, min_new_tokens=4, do_sample=False)
    return str(processor.tokenizer.decode(output[0]))


def _weights(run_dir: RunDir) -> dict[str, str]:
    """Digests of the final weights."""
    folder = run_dir.last_checkpoint()
    assert folder is not None
    files = verify_checkpoint(folder).files
    return {file.path: file.sha256 for file in files if file.path.endswith(".safetensors")}


def _tensors(run_dir: RunDir) -> dict[str, bytes]:
    """The final weights: files of packed ones list what is in them in any order."""
    from safetensors import safe_open
    from torch import uint8

    folder = run_dir.last_checkpoint()
    assert folder is not None
    with safe_open(folder / "model.safetensors", framework="pt") as file:
        return {name: file.get_tensor(name).view(dtype=uint8).numpy().tobytes() for name in file.keys()}  # noqa: SIM118


def _leaves(schema: dict[str, Any], above: str = "") -> list[tuple[str, dict[str, Any]]]:
    found = []
    for name, entry in schema["properties"].items():
        path = f"{above}{name}"
        found += _leaves(entry, f"{path}.") if "properties" in entry else [(path, entry)]
    return found


def _flat(values: dict[str, Any], above: str = "") -> list[tuple[str, Any]]:
    found = []
    for name, value in values.items():
        path = f"{above}{name}"
        found += _flat(value, f"{path}.") if isinstance(value, dict) else [(path, value)]
    return found


def test_no_class_of_settings_lacks_a_docstring() -> None:
    seen: set[type[BaseModel]] = {method.config for method in METHODS}
    assert all(config.__doc__ for config in seen)

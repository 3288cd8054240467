"""Models that read images: built, trained in part, gone on with, and kept apart from text."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from polm_core.catalogue import get
from polm_core.context import ModelSpec, load_spec
from polm_core.data.images import in_parts
from polm_core.data.problems import RowProblem
from polm_core.errors import ConfigError, ModelError
from polm_core.formats import Format
from polm_core.generate import Generator
from polm_core.preflight import preflight
from polm_core.preflight_report import Report
from polm_core.run import EXIT_FAILED, execute
from polm_core.run_dir import RunDir
from polm_core.training.loading import check_start, load_writer
from polm_core.training.rows import load_rows
from polm_core.training.vision import (
    encode_image_rows,
    freeze_all_but,
    load_processor,
    load_vision_model,
    vision_collator,
)
from tests.polm_core.conftest import MakeRun, points, samples
from tests.support.images import talk, write_pictures

IMAGES = Format.IMAGE_CONVERSATION
pytestmark = [pytest.mark.train, pytest.mark.filterwarnings("default")]


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


@pytest.fixture(scope="module")
def processor(tiny_model: Path) -> Any:
    return load_processor(ModelSpec(path=tiny_model), "small", 32)


@pytest.fixture(scope="module")
def seeing(tiny_model: Path, processor: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A vision model as a run saves it."""
    folder = tmp_path_factory.mktemp("seeing")
    config: Any = get("vlm-sft").parse({})
    load_vision_model(ModelSpec(path=tiny_model), config, processor, "small", 32).save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def check(make_run: MakeRun, method: str = "vlm-sft", **more: Any) -> Report:
    return preflight(load_spec(make_run(method, **more).config))


@pytest.mark.parametrize(
    ("prompt", "count", "kinds"),
    [
        ([user("What?")], 2, ["image", "image", "text"]),
        ([user("<image>\nand <image>?")], 2, ["image", "text", "image", "text"]),
        ([{"role": "system", "content": "Look."}, user("What?")], 1, ["text", "image", "text"]),
        ([user("One."), {"role": "assistant", "content": "Yes."}, user("This: <image>")], 1, ["text"] * 3 + ["image"]),
    ],
)
def test_images_stand_where_they_are_marked_or_go_first(prompt: list[Any], count: int, kinds: list[str]) -> None:
    assert [part["type"] for turn in in_parts(prompt, count) for part in turn["content"]] == kinds


@pytest.mark.parametrize(("prompt", "count"), [([user("<image>")], 2), ([{"role": "system", "content": "Look."}], 1)])
def test_images_without_a_place_are_refused(prompt: list[Any], count: int) -> None:
    with pytest.raises(RowProblem):
        in_parts(prompt, count)


def test_tokens_are_counted_and_marked_as_they_are_trained(processor: Any, tmp_path: Path) -> None:
    write_pictures(tmp_path)
    row = talk("", "red") | {"images": [str(tmp_path / "images" / "red.png")]}
    ((encoded,),) = encode_image_rows(processor, [row])
    batch = vision_collator(processor)([row])
    assert encoded.input_ids == batch["input_ids"][0].tolist()
    trained = [label for label in batch["labels"][0].tolist() if label != -100]
    assert [token for token, on in zip(encoded.input_ids, encoded.trained, strict=True) if on] == trained
    assert encoded.input_ids.count(processor.image_token_id) == 16


@pytest.mark.parametrize(
    ("trained", "parts"),
    [
        ("all", {"vision_tower", "multi_modal_projector", "language_model"}),
        ("connector", {"multi_modal_projector"}),
        ("connector-and-language", {"multi_modal_projector", "language_model"}),
    ],
)
def test_what_is_not_to_be_trained_is_frozen(seeing: Path, processor: Any, trained: Any, parts: set[str]) -> None:
    config: Any = get("vlm-sft").parse({})
    model = load_vision_model(ModelSpec(path=seeing), config, processor, "small", 32)
    freeze_all_but(model, trained)
    moving = {name.split(".")[1] for name, weight in model.named_parameters() if weight.requires_grad}
    assert moving - {"weight"} == parts


def test_a_run_goes_on_with_a_vision_model_and_tells_what_it_saw(make_run: MakeRun, seeing: Path) -> None:
    spec = {"model": {"path": str(seeing), "name": "seeing"}}
    run_dir: RunDir = make_run("vlm-connector", format=IMAGES, max_steps=1, spec=spec)
    assert execute(run_dir.root) == 0
    assert sorted(points(run_dir, "eval/accuracy")) == [0, 1]
    last = samples(run_dir)[-1]
    assert last["reference"] in ("red", "green", "blue")
    assert last["images"] == [f"{last['reference']}.png"]


def test_rows_over_the_longest_length_are_left_out(make_run: MakeRun) -> None:
    long = talk("images/red.png", "red", "7 " * 300)
    rows = [talk("images/blue.png", "blue", f"{n}?") for n in range(10)] + [long]
    report = check(make_run, format=IMAGES, rows=rows, max_length=200, spec={"held_out": 0})
    assert (report.untrained_rows, report.rows_used, report.blocking) == (1, 10, [])
    assert report.tokens.max > 600


def test_the_preflight_shows_the_first_image_and_counts_the_tower(make_run: MakeRun) -> None:
    whole = check(make_run, format=IMAGES, spec={"held_out": 0})
    connector = check(make_run, "vlm-connector", format=IMAGES, spec={"held_out": 0})
    assert whole.blocking == connector.blocking == []
    assert whole.first_example is not None
    assert whole.first_example.images == ["red.png"]
    assert "<image>" in "".join(token.text for token in whole.first_example.tokens)
    assert "".join(token.text for token in whole.first_example.tokens if token.trained).startswith("red")
    # The tower has most of the weights here.
    assert whole.memory_bytes > connector.memory_bytes + 500_000


@pytest.mark.parametrize(("method", "format"), [("vlm-sft", Format.CONVERSATION), ("sft", IMAGES), ("dpo", IMAGES)])
def test_text_and_images_are_kept_apart(make_run: MakeRun, method: str, format: Format) -> None:
    (entry,) = check(make_run, method, format=format).blocking
    assert entry.code == "data.format"
    assert entry.remedy


def test_methods_of_text_refuse_a_vision_model(make_run: MakeRun, seeing: Path) -> None:
    (entry,) = check(make_run, "sft", spec={"model": {"path": str(seeing), "name": "seeing"}}).blocking
    assert (entry.code, "vlm-sft" in entry.remedy) == ("model.vision", True)
    with pytest.raises(ModelError, match="is a vision model"):
        load_writer(ModelSpec(path=seeing))
    check_start(ModelSpec(path=seeing), get("vlm-sft").parse({}))  # type: ignore[arg-type]


def test_a_vision_model_answers_questions_without_an_image_too(seeing: Path) -> None:
    request = {"id": "1", "model_path": str(seeing), "messages": [user("What is 1 + 1?")], "max_new_tokens": 4}
    *_, last = Generator().answer(json.dumps(request))
    assert (last.get("error"), last.get("done")) == (None, True)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"vision_tower": "../tower"}, "must be small or the id"),
        ({"vision_tower": ""}, "must be small or the id"),
        ({"image_size": 30}, "image_size"),
        ({"adapter": {"type": "lora"}}, "must be of type none"),
        ({"train": "tower"}, "must be one of"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        get("vlm-sft").parse(settings)


@pytest.mark.parametrize("name", ["../outside.png", "/etc/hostname", "images/gone.png"])
def test_an_image_that_is_not_there_ends_the_run_with_its_row(make_run: MakeRun, tmp_path: Path, name: str) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path.parent / "outside.png")
    run_dir = make_run("vlm-sft", format=IMAGES, rows=[talk("images/red.png", "red"), talk(name, "red")])
    spec = load_spec(run_dir.config)
    with pytest.raises(Exception, match=r"Row 2 names the image"):
        load_rows(spec.dataset, (IMAGES,))
    assert execute(run_dir.root) == EXIT_FAILED
    assert json.loads(run_dir.result.read_text())["error"]["code"] == "data.image"

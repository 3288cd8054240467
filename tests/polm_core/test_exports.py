"""Exports and parity in the core: what a check finds when an export is not what was trained, and what GGUF refuses."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from polm_core.context import DatasetSpec, ModelSpec
from polm_core.errors import ConfigError, ModelError
from polm_core.export import ExportFormat, ExportJob, bytes_needed, export
from polm_core.formats import Format
from polm_core.parity import Difference, FormReport, ParityForm, ParityJob, compare
from polm_core.training.gguf_files import quantise, write_gguf
from tests.support.tiny import build_model

pytestmark = pytest.mark.train


def quietly(phase: str, fraction: float) -> None:
    assert 0 <= fraction <= 1


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_model(tmp_path_factory.mktemp("models") / "trained")


def check(trained: Path, changed: Path, **values: Any) -> FormReport:
    """A copy of a model, checked as its merged export."""
    form = ParityForm(format=ExportFormat.MERGED, path=changed)
    job = ParityJob(model=ModelSpec(path=trained), forms=[form], **{"prompts": ["1 + 1 ="], "new_tokens": 4, **values})
    return compare(job, quietly).forms[0]


def edit(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def another_template(folder: Path) -> None:
    path = folder / "chat_template.jinja"
    path.write_text(path.read_text().replace("Be helpful.", "Be rude."))


def another_end(folder: Path) -> None:
    edit(folder / "tokenizer_config.json", eos_token="<|im_start|>")
    edit(folder / "generation_config.json", eos_token_id=1)


def other_weights(folder: Path) -> None:
    build_model(folder, seed=1)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (another_template, ["chat template", "rendered", "other tokens"]),
        (another_end, ["end at <|im_start|>, and ended at <|im_end|>"]),
        (other_weights, ["nats away"]),
    ],
)
def test_what_an_export_has_lost_is_named(
    trained: Path, tmp_path: Path, change: Callable[[Path], None], said: list[str]
) -> None:
    changed = shutil.copytree(trained, tmp_path / "changed")
    change(changed)
    report = check(trained, changed)
    assert report.verdict == "differs"
    found = " ".join(report.differences)
    assert [part for part in said if part not in found] == []


def test_the_first_difference_is_marked_on_both_sides(trained: Path, tmp_path: Path) -> None:
    changed = shutil.copytree(trained, tmp_path / "changed")
    another_template(changed)
    (prompt,) = check(trained, changed).prompts
    assert isinstance(prompt.rendered, Difference)
    assert prompt.rendered.trained.before.endswith("system\nBe ")
    assert (prompt.rendered.trained.at, prompt.rendered.export.at) == ("h", "r")
    assert prompt.tokens is not None
    assert prompt.tokens.trained.before == prompt.tokens.export.before
    assert prompt.tokens.trained.at != prompt.tokens.export.at
    assert (prompt.kl, prompt.logit) == (None, None)


def test_a_copy_is_the_same_on_rows_of_a_dataset_too(trained: Path, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps({"prompt": text, "completion": "2"}) + "\n" for text in ("x" * 3000, "1 + 1 =")))
    dataset = DatasetSpec(path=rows, format=Format.PROMPT_COMPLETION)
    report = check(trained, shutil.copytree(trained, tmp_path / "copy"), dataset=dataset)
    assert (report.verdict, report.differences, report.kl, report.logit) == ("same", [], 0, 0)
    assert [prompt.prompt for prompt in report.prompts] == ["1 + 1 =", "1 + 1 ="]


def test_a_prompt_that_is_too_long_is_refused(trained: Path) -> None:
    with pytest.raises(ConfigError, match="must leave room"):
        check(trained, trained, prompts=["1 + 1 = " * 400])


def test_a_tokenizer_that_gguf_has_no_name_for_is_refused(trained: Path, tmp_path: Path) -> None:
    job = ExportJob(model=ModelSpec(path=trained), format=ExportFormat.F16, name="tiny")
    with pytest.raises(ModelError) as caught:
        export(job, tmp_path / "files", quietly)
    assert caught.value.code == "export.tokenizer"
    assert list((tmp_path / "files").iterdir()) == []


def test_an_architecture_that_gguf_does_not_know_is_refused(trained: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(trained, tmp_path / "model")
    edit(folder / "config.json", architectures=["FooForCausalLM"])
    with pytest.raises(ModelError, match="FooForCausalLM") as caught:
        write_gguf(folder, tmp_path / "x.gguf", "f16", lambda _: None)
    assert caught.value.code == "export.architecture"


def test_a_tokenizer_that_brings_code_is_not_converted(trained: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(trained, tmp_path / "model")
    edit(folder / "tokenizer_config.json", auto_map={"AutoTokenizer": ["x.X", None]})
    with pytest.raises(ModelError) as caught:
        write_gguf(folder, tmp_path / "x.gguf", "f16", lambda _: None)
    assert caught.value.code == "model.remote_code"


def test_the_room_that_is_asked_for_counts_what_is_made_on_the_way() -> None:
    whole = bytes_needed(ExportFormat.Q4_0, 1_000_000, has_adapter=False)
    assert 2_600_000 < whole < 3_000_000
    assert bytes_needed(ExportFormat.Q4_0, 1_000_000, has_adapter=True) > whole + 4_000_000


def test_matrices_are_rewritten_in_four_bits_and_the_rest_is_kept(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    given = {
        "token_embd.weight": draw.normal(size=(8, 64)).astype(np.float16),
        "blk.0.attn_q.weight": draw.normal(size=(64, 64)).astype(np.float16),
        "blk.0.odd.weight": draw.normal(size=(4, 33)).astype(np.float16),
        "blk.0.attn_norm.weight": draw.normal(size=64).astype(np.float32),
    }
    source, target = tmp_path / "f16.gguf", tmp_path / "q4_1.gguf"
    writer = gguf.GGUFWriter(source, "llama")
    writer.add_chat_template("{{ messages }}")
    writer.add_token_list(["a", "b"])
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    for name, numbers in given.items():
        writer.add_tensor(name, numbers)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()

    told: list[float] = []
    quantise(source, target, "q4_1", told.append)
    reader = gguf.GGUFReader(target)
    assert told[-1] == 1
    assert reader.fields["tokenizer.chat_template"].contents() == "{{ messages }}"
    assert reader.fields["tokenizer.ggml.tokens"].contents() == ["a", "b"]
    assert reader.fields["general.file_type"].contents() == gguf.LlamaFileType.MOSTLY_Q4_1
    kinds = {tensor.name: tensor.tensor_type.name for tensor in reader.tensors}
    assert list(kinds.values()) == ["Q8_0", "Q4_1", "F32", "F32"]
    for tensor in reader.tensors:
        read = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        allowed = {"Q8_0": 0.02, "Q4_1": 0.25, "F32": 0.0}[kinds[tensor.name]]
        assert np.abs(read - given[tensor.name]).max() <= allowed

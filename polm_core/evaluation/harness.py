"""Tasks as lm-eval carries them out (EleutherAI's harness): built of a dataset's rows, or of those it has on the hub.

A task is one of a fixed list: lm-eval's own files can hold code, so none is taken from a person.
"""

import logging
import os
from collections.abc import Iterator, Sequence
from typing import Any, Literal, get_args

from polm_core.blocks import HARDWARE, MAIN, SCHEDULE, setting
from polm_core.context import RunContext
from polm_core.errors import ConfigError, ResourceError
from polm_core.evaluation.answering import keep_answer
from polm_core.evaluation.choosing import EvaluationConfig, rows_to_measure
from polm_core.evaluation.intervals import Scores
from polm_core.evaluation.results import Figure, figure, growing, row_keys
from polm_core.formats import Format
from polm_core.method import EVALUATION, ChartSpec, Method, Paper
from polm_core.rewards.config import PromptedConfig
from polm_core.training.encoding import as_pairs, plain_text
from polm_core.training.made import make_rows
from polm_core.training.rows import Row
from polm_core.training.sampling import render_prompts

logger = logging.getLogger(__name__)

FORMATS = (Format.PROMPT_ANSWER, Format.PREFERENCE)
LocalTask = Literal["answers", "choices"]
HubTask = Literal[
    "arc_easy", "arc_challenge", "boolq", "hellaswag", "lambada_openai", "openbookqa", "piqa", "winogrande"
]
HUB_TASKS: tuple[str, ...] = get_args(HubTask)
_NEEDS = {"answers": Format.PROMPT_ANSWER, "choices": Format.PREFERENCE}
_METRICS = {"answers": "exact_match"}
_SECONDS = 5
_NUMBER = r"(-?\d[\d,]*(?:\.\d+)?)"


class HarnessConfig(PromptedConfig, EvaluationConfig):
    """Settings of the evaluation by lm-eval."""

    benchmark: Literal[LocalTask, HubTask] = setting("answers", group=MAIN)
    """`answers` has the model answer prompts, and compares with the row's answer to the letter, case and punctuation
    aside, or its last number with a number. `choices` asks whether the better answer of a pair is likelier. The others
    are known tasks of lm-eval, whose rows come from the hub in place of the dataset's."""

    batch_size: int = setting(8, group=MAIN, unit="rows", ge=1, le=4096)
    """Rows that are asked at once: more are faster, until memory runs out."""

    max_completion_length: int = setting(256, group=MAIN, unit="tokens", ge=1, le=32_768)
    """Longest answer; what is not finished by then is cut off."""

    eval_rows: int = setting(200, group=SCHEDULE, unit="rows", ge=1, le=100_000)
    """Most rows that are taken, the same ones for the same seed; of a task from the hub the first ones."""

    processes: int = setting(1, group=HARDWARE, unit="processes", ge=1, le=512)
    """Processes of the run. One, for the model answers in one."""


def run(config: HarnessConfig, context: RunContext) -> dict[str, float]:
    """Carry the task out, or what is left of it, and return its accuracy."""
    from polm_core.training.setup import bring_writer, read_data

    if config.benchmark in HUB_TASKS:
        check_hub(config.benchmark)
    split, tokenizer = read_data(config, context, FORMATS)
    if config.benchmark in HUB_TASKS:
        rows: list[Row] = [{"task": config.benchmark, "place": place} for place in range(config.eval_rows)]
    else:
        check_fits(config, split.format)
        rows = rows_to_measure(
            config, *(_documents(tokenizer, part, split.format, config) for part in (split.train, split.held_out))
        )
    model = bring_writer(config, context)
    harness = _Harness(config, context, model, tokenizer)
    context.phase("answering")
    context.progress(total_steps=len(rows))
    keys = row_keys(rows)

    def ask(place: int, some: Sequence[Row]) -> list[Row]:
        scores = harness.scores(place, some)
        context.progress(step=place + len(some))
        # A task from the hub may have fewer rows than are asked for.
        return [
            {"key": keys[place + index], "score": scores[index] if index < len(scores) else None}
            for index in range(len(some))
        ]

    made = make_rows(context, config, rows, ask, batch_size=config.batch_size)
    context.progress(step=len(rows))
    return growing(context, [row for row in made if row["score"] is not None], _figures)


def check_fits(config: HarnessConfig, format_: Format) -> None:
    """Raise `ConfigError` when the task is built of rows of another format."""
    if _NEEDS[config.benchmark] is not format_:
        problem = f"must be {next(task for task, needed in _NEEDS.items() if needed is format_)} for {format_} rows"
        raise ConfigError(
            f"The task {config.benchmark} is built of {_NEEDS[config.benchmark]} rows; the dataset's are {format_}.",
            fields={"config.benchmark": [problem]},
            advice="Choose the other task, or another dataset.",
        )


def check_hub(task: str) -> None:
    """Raise `ResourceError` when a task's rows cannot be fetched."""
    import requests

    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    try:
        if os.environ.get("HF_HUB_OFFLINE") == "1":
            raise requests.ConnectionError("HF_HUB_OFFLINE is set")
        requests.head(endpoint, timeout=_SECONDS)
    except requests.RequestException as error:
        raise ResourceError(
            f"The rows of {task} are on the hub, which this machine does not reach at {endpoint}.",
            code="harness.hub",
            advice="Take the task answers or choices, which are built of your dataset, or run on a worker that reaches "
            "the hub (HF_ENDPOINT).",
        ) from error


def _documents(tokenizer: Any, rows: Sequence[Row], format_: Format, config: HarnessConfig) -> list[Row]:
    """The rows as the harness takes them: texts alone."""
    from polm_core.training.rollouts import prompt_rows

    if format_ is Format.PROMPT_ANSWER:
        prompts = prompt_rows(tokenizer, rows, config)
        return [{"prompt": row["prompt"], "answer": row["answer"]} for row in prompts]
    pairs = as_pairs(rows, wrap=config.chat_template)
    return [
        {"prompt": pair["prompt"], "choices": [plain_text(pair["chosen"]), plain_text(pair["rejected"])]}
        for pair in pairs
    ]


class _Harness:
    """lm-eval around a loaded model."""

    def __init__(self, config: HarnessConfig, context: RunContext, model: Any, tokenizer: Any) -> None:
        from lm_eval.models.huggingface import HFLM
        from lm_eval.tasks import TaskManager

        self.config = config
        self.context = context
        self.tokenizer = tokenizer
        self.model = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=config.batch_size)
        self.tasks = TaskManager(include_defaults=config.benchmark in HUB_TASKS)

    def scores(self, place: int, rows: Sequence[Row]) -> list[float]:
        """What the task's metric gives each of some rows, of which the first stands at `place`."""
        import lm_eval

        name = self.config.benchmark
        hub = name in HUB_TASKS
        found = lm_eval.simple_evaluate(
            model=self.model,
            tasks=[name if hub else self._task(rows)],
            task_manager=self.tasks,
            samples={name: [row["place"] for row in rows]} if hub else None,
            bootstrap_iters=0,
            log_samples=True,
            random_seed=self.config.seed,
            numpy_random_seed=self.config.seed,
            torch_random_seed=self.config.seed,
        )
        samples = sorted(found["samples"][name], key=lambda sample: sample["doc_id"]) if found else []
        metric = _METRICS.get(name, "acc")
        scores = [float(sample[metric]) for sample in samples]
        for index, (sample, score) in enumerate(zip(samples, scores, strict=True)):
            row = {"prompt": rows[index]["prompt"]} if not hub else {"prompt": str(sample["arguments"][0][0])}
            keep_answer(
                self.context,
                row,
                _said(sample),
                "Right" if score else "Wrong",
                group=place + index,
                place=0,
                reward=score,
                rewards={metric: score},
            )
        return scores

    def _task(self, rows: Sequence[Row]) -> dict[str, Any]:
        """A task of some rows, as lm-eval describes one."""
        from datasets import Dataset, DatasetDict

        texts = render_prompts(self.tokenizer, [row["prompt"] for row in rows])
        documents = [{**row, "prompt": text} for row, text in zip(rows, texts, strict=True)]
        common = {
            "task": self.config.benchmark,
            "custom_dataset": lambda **_: DatasetDict({"test": Dataset.from_list(documents)}),
            "test_split": "test",
            "doc_to_text": "prompt",
            "num_fewshot": 0,
        }
        if self.config.benchmark == "choices":
            return {
                **common,
                "output_type": "multiple_choice",
                "target_delimiter": "" if self.config.chat_template else " ",
                "doc_to_choice": "choices",
                "doc_to_target": lambda document: 0,
                "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
            }
        numbers = all(row["answer"].strip().lstrip("-").replace(",", "").replace(".", "").isdigit() for row in rows)
        number = {"function": "regex", "regex_pattern": _NUMBER, "group_select": -1}
        return {
            **common,
            "output_type": "generate_until",
            "doc_to_target": "answer",
            "generation_kwargs": {
                "until": [self.tokenizer.eos_token],
                "max_gen_toks": self.config.max_completion_length,
                "do_sample": False,
            },
            "filter_list": [{"name": "answer", "filter": [*([number] if numbers else []), {"function": "take_first"}]}],
            "metric_list": [
                {
                    "metric": "exact_match",
                    "aggregation": "mean",
                    "higher_is_better": True,
                    "ignore_case": True,
                    "ignore_punctuation": not numbers,
                    "regexes_to_ignore": [","] if numbers else [],
                }
            ],
        }


def _said(sample: Any) -> str:
    """What the model answered, or how likely it found each choice."""
    replies = sample["resps"]
    first = replies[0][0]
    if isinstance(first, str):
        return first
    return ", ".join(f"choice {number}: {reply[0][0]:.2f} nats" for number, reply in enumerate(replies, 1))


def _figures(rows: Sequence[Row]) -> Iterator[Figure]:
    yield figure("accuracy", Scores([row["key"] for row in rows], [row["score"] for row in rows]), "higher")


METHOD = Method(
    slug="eval-harness",
    title="lm-eval harness",
    paradigm=None,
    branch=EVALUATION.title,
    summary="Carries out a task as EleutherAI's lm-eval does: built of your dataset, or a known one from the hub.",
    when="You want figures that were counted as others count them, or ask which of two answers is likelier.",
    paper=Paper("Lessons from the Trenches on Reproducible Evaluation of Language Models", "2405.14782"),
    objective="Optimises nothing: it estimates the share of rows that the model gets right, by lm-eval's own code. An "
    "answer is right to the letter, a choice when it is the likelier one. The interval is the bootstrap's over rows.",
    formula="accuracy = 1/|D| Σ_{x ∈ D} 1[y = answer(x)], or 1[log π(chosen|x) > log π(rejected|x)]",
    watch=(
        "Long choices are less likely than short ones: where the better answer is the longer one, it loses by that.",
        "Answers in whole sentences are wrong to the letter: the evaluation by accuracy reads them more kindly.",
        "Known tasks are part of what many models were trained on: their figures say less than they seem to.",
    ),
    formats=FORMATS,
    config=HarnessConfig,
    run=run,
    charts=(
        ChartSpec(
            "Accuracy",
            ("accuracy",),
            "share of rows",
            "The estimate as rows are added. The band is 95 % by bootstrap over rows.",
            x="rows",
            band=True,
        ),
    ),
    main_fields=("benchmark", "measure_on", "eval_rows", "max_completion_length", "batch_size"),
    makes_checkpoints=False,
)

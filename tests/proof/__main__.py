"""Train every method for real and write what it moved: `python -m tests.proof`; `METHOD=dpo,kto` does these alone.

A row is written as soon as it is measured, and rows that are there already, by the same definition, are kept: after an
interruption the work goes on where it stopped. `METHOD=` measures its rows anew.
"""

import hashlib
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from statistics import fmean
from typing import Any

from polm_core import catalogue
from polm_core.context import DatasetSpec, ModelSpec, RunSpec, dump_spec
from polm_core.data.samples import ON_DOCUMENTS, write_samples
from polm_core.environment import set_environment
from polm_core.formats import Format
from polm_core.run_dir import Outcome, RunDir
from polm_core.training.rows import load_split, read_jsonl
from tests.proof import merging
from tests.proof.data import dataset_spec, prepare_model, prepare_rows
from tests.proof.rows import ROWS, SEEDS, ProofRow
from tests.proof.table import DOCS, merged_entries, read_entries, write_table

VAR = DOCS.parent / "var" / "proof"


def main() -> int:
    set_environment()
    only = [slug for slug in os.environ.get("METHOD", "").split(",") if slug]
    for slug in only:
        catalogue.get(slug)
    VAR.mkdir(parents=True, exist_ok=True)
    order = [row.slug for row in ROWS]
    known = {entry["name"]: entry for entry in read_entries(DOCS / "proof.json")}
    met = True
    for row in ROWS:
        if only and row.slug not in only:
            continue
        entry = known.get(row.slug)
        if only or entry is None or entry["definition"] != definition(row):
            entry = measure(row)
            write_table(merged_entries(read_entries(DOCS / "proof.json"), entry, order), DOCS)
            tell(entry)
        met = met and entry["ok"]
    return 0 if met else 1


def definition(row: ProofRow) -> str:
    """A digest of all that a row's figure depends on but the code."""
    parts = [row.slug, row.metric, row.bar, row.model, row.config, SEEDS, row.held_out]
    parts += [row.teacher] if row.teacher else []
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def measure(row: ProofRow) -> dict[str, Any]:
    """Train the row once for each seed and say what it moved."""
    rows, held_out = rows_of(row)  # first: what all seeds begin from is prepared once, not side by side
    with ThreadPoolExecutor(len(SEEDS)) as pool:
        runs = list(pool.map(partial(prove_merge if row.format is None else prove, row), SEEDS))
    after = fmean(run[1] for run in runs)
    return {
        "name": row.slug,
        "figure": after,
        "unit": row.unit,
        "bar": row.bar,
        "ok": all(row.is_met(before, after) for before, after, _ in runs) and all(map(partial(kept, row), SEEDS)),
        "metric": row.metric,
        "before": fmean(run[0] for run in runs),
        "after": after,
        "by_seed": [[before, after] for before, after, _ in runs],
        "seeds": list(SEEDS),
        "rows": rows,
        "held_out_rows": held_out,
        "steps": row.steps,
        "seconds": round(fmean(run[2] for run in runs), 1),
        "model": f"{row.model}, taught by {row.teacher}" if row.teacher else row.model,
        "definition": definition(row),
    }


def prove(row: ProofRow, seed: int) -> tuple[float, float, float]:
    """The metric before and after, and the seconds."""
    return train(f"{row.slug}-{seed}", spec_of(row, seed), row.metric)


def prove_merge(row: ProofRow, seed: int) -> tuple[float, float, float]:
    """As `prove`, of two models that are trained for it, and what they are merged into."""
    start, tasks = _model(row.model), [_dataset(task) for task in merging.TASKS]
    spent, models = 0.0, []
    for number, task in enumerate(tasks, 1):
        name = f"merge-parent-{number}-{seed}"
        spent += train(name, merging.tuned(start, task, row.steps, seed), row.metric, keeps_weights=True)[2]
        models.append(merging.model_of(RunDir(VAR / name).last_checkpoint(), name))
    name = f"{row.slug}-{seed}"
    spent += train(name, merging.joined(row, models, seed), "tensors", keeps_weights=True)[2]
    models.append(merging.model_of(RunDir(VAR / name).last_checkpoint(), name))
    losses = [
        [train(f"{model.name}-on-{task.format}", merging.tuned(model, task, 1, seed), row.metric)[0] for task in tasks]
        for model in models
    ]
    return *merging.before_and_after(losses), spent


def kept(row: ProofRow, seed: int) -> bool:
    """Whether a seed's run cost no more than it may."""
    run_dir = RunDir(VAR / f"{row.slug}-{seed}")
    return row.is_kept({key: series(run_dir, key) for key in row.costs})


def rows_of(row: ProofRow) -> tuple[int, int]:
    """How many rows a row is trained and measured on; edits are measured on their own neighbours."""
    if row.format is Format.EDIT:
        edits = read_jsonl(_dataset(row.format).path)
        return len(edits), sum(len(edit["neighbours"]) for edit in edits)
    specs = (
        [spec_of(row, SEEDS[0])]
        if row.format
        else [merging.tuned(_model(row.model), _dataset(task), 1, SEEDS[0]) for task in merging.TASKS]
    )
    splits = [
        load_split(one, catalogue.get(one.method).formats, eval_rows=one.config["eval_rows"], seed=SEEDS[0])
        for one in specs
    ]
    return sum(len(split.train) for split in splits), sum(len(split.held_out) for split in splits)


def _dataset(format_: Format) -> DatasetSpec:
    return dataset_spec(*prepare_rows(format_, VAR))


def spec_of(row: ProofRow, seed: int) -> RunSpec:
    assert row.format is not None
    dataset, documents = _dataset(row.format), None
    if catalogue.get(row.slug).takes_documents:
        samples = write_samples(VAR)
        dataset = dataset_spec(samples[ON_DOCUMENTS], row.format)
        documents = dataset_spec(samples[Format.DOCUMENTS], Format.DOCUMENTS)
    return RunSpec(
        method=row.slug,
        model=_model(row.model),
        teacher_model=_model(row.teacher) if row.teacher else None,
        dataset=dataset,
        documents=documents,
        held_out=row.held_out,
        config={**row.config, "seed": seed},
    )


def _model(name: str) -> ModelSpec:
    return ModelSpec(path=prepare_model(name, VAR), name=name)


def train(name: str, spec: RunSpec, metric: str, *, keeps_weights: bool = False) -> tuple[float, float, float]:
    """The metric before and after, and the seconds of one core it took: those do not depend on what else goes on.

    A finished run of the same settings is not repeated. Weights that nothing else takes are not kept.
    """
    run_dir = RunDir(VAR / name)
    run_dir.create()
    text = dump_spec(spec)
    done = run_dir.read_result()
    same = run_dir.config.is_file() and run_dir.config.read_text() == text
    if not (same and done is not None and done.outcome is Outcome.SUCCEEDED):
        run_dir.metrics.unlink(missing_ok=True)
        run_dir.config.write_text(text)
        with run_dir.log.open("w") as log:
            command = [sys.executable, "-m", "polm_core.run", str(run_dir.root)]
            # A core each: two processes with a thread each get through more than one with two.
            process = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, "OMP_NUM_THREADS": "1"})
            _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"{name} ended with code {process.returncode}; see {run_dir.log}")
        (run_dir.root / "seconds").write_text(str(used.ru_utime + used.ru_stime))
        if not keeps_weights:
            drop_weights(run_dir)
    values = series(run_dir, metric)
    return values[0], values[-1], float((run_dir.root / "seconds").read_text())


def series(run_dir: RunDir, metric: str) -> list[float]:
    lines = [json.loads(line) for line in run_dir.metrics.read_text().splitlines()]
    return [line["values"][metric] for line in lines if metric in line["values"]]


def drop_weights(run_dir: RunDir) -> None:
    """Keep the figures of a run and not its weights, of which the table needs none."""
    for path in run_dir.checkpoints.rglob("*"):
        if path.suffix in {".safetensors", ".pt", ".pth"}:
            path.unlink()


def tell(entry: dict[str, Any]) -> None:
    verdict = "met" if entry["ok"] else "NOT MET"
    line = (
        f"{entry['name']}: {entry['metric']} {entry['before']:.4g} -> {entry['after']:.4g} ({entry['bar']}: {verdict})"
    )
    sys.stdout.write(f"{line}, {entry['seconds']:.0f} s of a core a seed\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())

"""The pages under `docs/methods`, one a method, made from the catalogue: `python -m polm_core docs`."""

import inspect
import json
import re
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

from polm_core import formats
from polm_core.catalogue import METHODS, TAXONOMY
from polm_core.method import PARADIGMS, Method, Teacher
from polm_core.run_dir import write_atomic
from polm_core.settings import SettingSpec, group_title, setting_specs

FOLDER = Path("docs/methods")
INDEX = "README.md"
SHARED = "settings.md"
MARK = "<!-- Made from the code by `python -m polm_core docs`. -->"

_TEACHERS = {
    Teacher.WRITES: "It needs a teacher, `teacher_model`: any other model that writes.",
    Teacher.OPPONENT: "It needs an opponent, `teacher_model`: any other model that writes.",
    Teacher.SAME_TOKENIZER: "It needs a teacher, `teacher_model`: another model with the same tokenizer.",
    Teacher.ANY_TOKENIZER: "It needs a teacher, `teacher_model`: any other model that writes, whatever its tokenizer.",
}

_DOCUMENTS = "It needs a second dataset, `documents`, that it answers from:"

# What formulas are written with; every other name in them is a setting or said beside it.
NOTATION = {
    "π": "the model that is trained",
    "π_ref": "the reference: the model as it was at the start",
    "σ": "the logistic function",
    "x": "the prompt",
    "y": "an answer, or other text that is learned",
    "y_w": "the chosen answer",
    "y_l": "the rejected answer",
    "y_i": "answer i to the prompt",
    "y_t": "token t of the text",
    "p_T": "the teacher",
    "W": "a layer's weights as they are used",
    "W_0": "a layer's weights as they were",
    "X_j": "input j of a layer",
    "X_l": "what goes into layer l",
}


def pages() -> dict[str, str]:
    """Every page by its file's name."""
    return {
        INDEX: _index(),
        SHARED: _shared_page(),
        **{f"{method.slug}.md": method_page(method) for method in METHODS},
    }


def write_pages(folder: Path) -> list[str]:
    """Write the pages that are not there or differ, remove those of methods that are gone; the names of both."""
    folder.mkdir(parents=True, exist_ok=True)
    wanted = pages()
    there = {path.name: path.read_text(encoding="utf-8") for path in folder.glob("*.md")}
    stale = [name for name, text in there.items() if name not in wanted and text.startswith(MARK)]
    changed = [name for name, text in wanted.items() if there.get(name) != text]
    for name in changed:
        write_atomic(folder / name, wanted[name])
    for name in stale:
        (folder / name).unlink()
    return sorted([*changed, *stale])


def symbols(formula: str) -> list[tuple[str, str]]:
    """The notation that a formula uses, each with what it stands for."""
    used = set(re.findall(r"[^\W\d_]+(?:_\w+)?", formula))
    return [(symbol, meaning) for symbol, meaning in NOTATION.items() if symbol in used]


def method_page(method: Method) -> str:
    """The page of one method."""
    spec = method.family
    parts = [
        MARK,
        f"# {method.title}",
        f"`{method.slug}` · [{spec.title}]({INDEX}#{_anchor(spec.title)}) · {method.branch}",
        method.summary,
        "## What it optimises",
        method.objective,
        _block(method.formula),
        _legend(method.formula),
        "## When to choose it",
        " ".join([method.when, method.devices]).strip(),
        _TEACHERS[method.teacher] if method.teacher else "",
        "## Data",
        *([_data(formats.SPECS[format_]) for format_ in method.formats] or ["None: it takes no dataset."]),
        *([_DOCUMENTS, _data(formats.SPECS[formats.Format.DOCUMENTS])] if method.takes_documents else []),
        "## Settings that matter",
        _settings_table(_notable(method)),
        f"Every other setting is one of those that [methods share]({SHARED}).",
        "## What to watch",
        "\n".join(f"- {text}" for text in method.watch),
        _table(
            ("Chart", "Unit", "How to read it", "Metrics"),
            ((c.title, c.unit, c.reading, " ".join(f"`{key}`" for key in c.keys)) for c in method.charts),
        ),
        "## The paper",
        f"[{method.paper.title}]({method.paper.url}), arXiv {method.paper.arxiv}.",
        "What it was measured to do here is in [the table of proofs](../proof.md).",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _index() -> str:
    parts = [
        MARK,
        "# Methods",
        "The catalogue by the paradigms and branches of "
        "[A Survey on Post-training of Large Language Models](https://arxiv.org/abs/2503.06072). "
        f"What all methods can be told is on [one page]({SHARED}), what they were measured to do in "
        "[the table of proofs](../proof.md).",
    ]
    for paradigm, spec in PARADIGMS.items():
        parts += [f"## {spec.title}", spec.summary]
        for branch in TAXONOMY:
            found = [m for m in METHODS if (m.paradigm, m.branch) == (branch.paradigm, branch.title)]
            if branch.paradigm == paradigm and found:
                parts += [f"### {branch.title}", branch.summary]
                parts.append("\n".join(f"- [{m.title}]({m.slug}.md): {_lower(m.summary)}" for m in found))
    return "\n\n".join(parts) + "\n"


def _shared_page() -> str:
    groups: dict[str, list[SettingSpec]] = {}
    for setting in _shared().values():
        groups.setdefault(setting.group, []).append(setting)
    parts = [
        MARK,
        "# Settings that methods share",
        f"A method's own page ([all of them]({INDEX})) names its other settings, and defaults that differ from these.",
    ]
    for group, settings in groups.items():
        parts += [f"## {group_title(group)}", _settings_table(settings)]
    return "\n\n".join(parts) + "\n"


def _notable(method: Method) -> list[SettingSpec]:
    """The settings that matter most, then the method's own and those whose default is not the shared one."""
    settings = {setting.path: setting for setting in setting_specs(method)}
    shared = _shared()
    others = [
        setting
        for path, setting in settings.items()
        if path not in method.main_fields and (path not in shared or shared[path].default != setting.default)
    ]
    return [*(settings[path] for path in method.main_fields), *others]


@cache
def _shared() -> dict[str, SettingSpec]:
    """The settings that no method's own class defines, by path, as the first method of the catalogue has them."""
    found: dict[str, SettingSpec] = {}
    for method in METHODS:
        for setting in setting_specs(method):
            if not _is_own(method, setting.path):
                found.setdefault(setting.path, setting)
    return found


def _is_own(method: Method, path: str) -> bool:
    """Whether the class that defines a setting, or defines it anew, is a method's and not a shared block."""
    name = path.split(".")[0]
    definer = next(cls for cls in method.config.__mro__ if name in inspect.get_annotations(cls))
    return definer.__module__.startswith("polm_core.methods.")


def _data(spec: formats.FormatSpec) -> str:
    columns = [(f"`{name}`", kind) for name, kind in spec.columns.items()]
    columns += [(f"`{name}`", f"{kind}; may be missing") for name, kind in spec.optional.items()]
    example = json.dumps(spec.example, indent=2, ensure_ascii=False)
    parts = [f"**{spec.title}** (`{spec.format}`). {spec.summary}", _table(("Column", "Holds"), columns)]
    return "\n\n".join([*parts, f"```json\n{example}\n```"])


def _settings_table(settings: Iterable[SettingSpec]) -> str:
    rows = (
        (
            f"`{setting.path}`",
            " ".join([f"`{setting.default_text}`" if setting.default_text else "empty", setting.unit]).strip(),
            setting.allowed or "text",
            setting.help,
            setting.source,
        )
        for setting in settings
    )
    return _table(("Setting", "Default", "Allowed", "What it does", "Default from"), rows)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *([_cell(text) for text in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _block(text: str) -> str:
    return f"```text\n{text}\n```" if text else ""


def _legend(formula: str) -> str:
    meanings = "; ".join(f"{symbol} is {meaning}" for symbol, meaning in symbols(formula))
    return f"Here {meanings}." if meanings else ""


def _anchor(title: str) -> str:
    return title.lower().replace(" ", "-")


def _lower(sentence: str) -> str:
    """A sentence as it goes on after a colon; names keep their capitals."""
    first = sentence.split()[0]
    return sentence if any(letter.isupper() for letter in first[1:]) else sentence[0].lower() + sentence[1:]

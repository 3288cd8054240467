"""The library on the command line: `python -m polm_core --help`."""

import argparse
import json
import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

from polm_core import catalogue
from polm_core.context import dump_spec, load_spec
from polm_core.docs import FOLDER, write_pages
from polm_core.errors import ConfigError, PolmError
from polm_core.method import Method
from polm_core.run_dir import RunDir, write_atomic
from polm_core.settings import setting_specs


def main(arguments: list[str] | None = None) -> int:
    """Run a command; its exit code. Failures a person can act on are printed, not raised."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.command(options))
    except PolmError as error:
        print(error.message, error.advice, sep="\n" if error.advice else "", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m polm_core", description="Post-training without the web.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    run = commands.add_parser("run", help="train what a config.yaml describes")
    run.add_argument("config", type=Path)
    run.add_argument("--out", type=Path, help="the run's folder (default: run-METHOD-TIME here)")
    run.add_argument("--resume", action="store_true", help="go on from the folder's last checkpoint")
    run.set_defaults(command=_run)

    methods = commands.add_parser("methods", help="list the catalogue, or explain a method with its settings")
    methods.add_argument("slug", nargs="?", help="the method to explain")
    methods.add_argument("--slugs", action="store_true", help="the names alone")
    methods.set_defaults(command=_methods)

    check = commands.add_parser("check", help="say whether a method can train on a file")
    check.add_argument("data", type=Path)
    check.add_argument("--method", required=True)
    check.set_defaults(command=_check)

    docs = commands.add_parser("docs", help="write the methods' pages from the catalogue")
    docs.add_argument("folder", type=Path, nargs="?", default=FOLDER, help=f"default: {FOLDER}")
    docs.set_defaults(command=_docs)

    starter = commands.add_parser("starter", help="write the starter model into a folder")
    starter.add_argument("folder", type=Path)
    starter.set_defaults(command=_starter)
    return parser


def _run(options: argparse.Namespace) -> int:
    spec = load_spec(options.config)
    config = catalogue.get(spec.method).parse(spec.config)
    out: Path = options.out or Path(f"run-{spec.method}-{time.strftime('%Y%m%d-%H%M%S')}")
    run_dir = RunDir(out.resolve())
    resume = _last_checkpoint(run_dir) if options.resume else spec.resume
    if run_dir.config.exists() and not options.resume:
        raise ConfigError(f"{out} holds a run already.", advice="Give --resume to go on with it, or another --out.")
    run_dir.create()
    run_dir.result.unlink(missing_ok=True)
    resolved = spec.model_copy(update={"config": config.model_dump(mode="json"), "resume": resume})
    write_atomic(run_dir.config, dump_spec(resolved))
    print(f"The run is in {out}", flush=True)
    return _start(run_dir)


def _last_checkpoint(run_dir: RunDir) -> Path:
    checkpoint = run_dir.last_checkpoint()
    if checkpoint is None:
        raise ConfigError(f"{run_dir.root} holds no complete checkpoint to go on from.")
    return checkpoint


def _start(run_dir: RunDir) -> int:
    """Run here, with everything printed going both to the terminal and to the run's log."""
    from polm_core.run import execute

    tee = subprocess.Popen(["tee", "-a", str(run_dir.log)], stdin=subprocess.PIPE, start_new_session=True)  # noqa: S607
    if tee.stdin is None:
        raise RuntimeError("tee was started without a pipe")
    os.dup2(tee.stdin.fileno(), sys.stdout.fileno())
    os.dup2(tee.stdin.fileno(), sys.stderr.fileno())
    return execute(run_dir.root)


def _methods(options: argparse.Namespace) -> int:
    if options.slug is not None:
        print(_explained(catalogue.get(options.slug)))
        return 0
    for method in (*catalogue.METHODS, *catalogue.EVALUATIONS):
        if options.slugs:
            print(method.slug)
        else:
            print(f"{method.slug:22} {method.family.title:28} {method.summary}")
    return 0


def _explained(method: Method) -> str:
    """What a method is, and what can stand under `config` in its config.yaml."""
    lines = [
        f"{method.title}: {method.summary}",
        method.when,
        f"Data: {' or '.join(method.formats) or 'none'}. Paper: {method.paper.title}, {method.paper.url}",
        "",
        "Settings with their defaults:",
    ]
    for setting in setting_specs(method):
        among = f" One of {', '.join(setting.options)}." if setting.options else ""
        lines += [f"  {setting.path}: {json.dumps(setting.default)}"]
        lines += textwrap.wrap(f"{setting.help}{among}", 100, initial_indent=" " * 6, subsequent_indent=" " * 6)
    return "\n".join(lines)


def _check(options: argparse.Namespace) -> int:
    from polm_core.data.check import check_file, describe

    method = catalogue.get(options.method)
    if not method.formats:
        raise ConfigError(f"{method.slug} takes no dataset, so there is no file to check.")
    result = check_file(options.data, method.formats)
    print(describe(result))
    return 0 if result["ok"] else 2


def _docs(options: argparse.Namespace) -> int:
    changed = write_pages(options.folder)
    print("\n".join(str(options.folder / name) for name in changed) or f"{options.folder} is up to date.")
    return 0


def _starter(options: argparse.Namespace) -> int:
    from polm_core.starter import convert_starter

    print(convert_starter(options.folder, lambda phase, fraction: print(f"{fraction:4.0%} {phase}", flush=True)))
    return 0


if __name__ == "__main__":
    sys.exit(main())

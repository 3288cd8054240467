"""From an uploaded file to canonical rows. `python -m polm_core.data.prepare job.yaml` does it in its own process.

The folder it leaves behind holds `report.json`, `progress.json`, `head.jsonl` (source rows for trying out mappings)
and, when the file is good, `rows.jsonl` with `rows.idx`. Exit code 0 means that there is a report, whatever it says.
"""

import errno
import re
import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path

import orjson
import yaml
from pydantic import ValidationError

from polm_core.data.apply import DROPPED_BY_NATURE, apply_mapping
from polm_core.data.archive import ImageArchive
from polm_core.data.choose import mixed
from polm_core.data.convert import CONVERSIONS, convert_rows
from polm_core.data.detect import Detection, detect
from polm_core.data.identify import FileFacts, identify
from polm_core.data.images import IMAGES_FOLDER, THUMBNAILS_FOLDER
from polm_core.data.limits import Limits, human_bytes, limit_process
from polm_core.data.observe import as_columns, observe
from polm_core.data.preview import HEAD_NAME, encoded_head
from polm_core.data.problems import RowProblem, Unreadable
from polm_core.data.readers import Head, iter_rows, read_head
from polm_core.data.report import (
    PROGRESS_NAME,
    REPORT_NAME,
    Mixture,
    Phase,
    PrepareJob,
    PrepareProgress,
    PrepareReport,
    Problem,
    Status,
    draft_of,
)
from polm_core.data.rows import INDEX_NAME, ROWS_NAME, RowsWriter
from polm_core.data.source import ByteSource, lines
from polm_core.data.stats import StatsCollector
from polm_core.data.values import Row
from polm_core.errors import DataError, PolmError, ResourceError
from polm_core.formats import SPECS, Format
from polm_core.run_dir import write_atomic

ARCHIVE_SUFFIX = ".zip"
UNPACKED_NAME = "unpacked.jsonl"
_PROGRESS_SECONDS = 0.25
_ENCODED_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")


def prepare(job: PrepareJob) -> PrepareReport:
    """Prepare a file into `job.out`, replacing what was there once all is written.

    Never raises for a bad file: the report says what is wrong with it.
    """
    draft = draft_of(job.out)
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    try:
        preparation = _Preparation(job, draft)
        report = preparation.run()
        write_atomic(draft / REPORT_NAME, report.model_dump_json(indent=1))
        _replace(draft, job.out)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return report


def _replace(draft: Path, out: Path) -> None:
    old = out.with_name(f".{out.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if out.exists():
        out.rename(old)
    draft.rename(out)
    shutil.rmtree(old, ignore_errors=True)


class _Preparation:
    """One file on its way; the report grows as more is known, so that an invalid file still shows what was found."""

    def __init__(self, job: PrepareJob, draft: Path) -> None:
        self._job = job
        self._draft = draft
        self._limits = job.limits
        self._report = PrepareReport(status=Status.INVALID)
        self._counts: Counter[str] = Counter()
        self._told = 0.0
        self._archive: ImageArchive | None = None

    def run(self) -> PrepareReport:
        try:
            if self._job.mixture is not None:
                self._mix(self._job.mixture)
            elif self._job.source is None:
                self._make()
            else:
                with ByteSource(self._job.source, self._limits) as source:
                    self._prepare(source)
            self._report.status = Status.READY
        except PolmError as error:
            self._fail(error)
        except MemoryError:
            self._fail(
                DataError(
                    f"Reading the file takes more than {human_bytes(self._limits.memory_bytes)} of memory.",
                    code="data.too-large",
                    advice="Write smaller rows, or Parquet with smaller row groups.",
                )
            )
        except OSError as error:
            self._fail(_disk_error(error, self._limits))
        self._report.problem_counts = dict(self._counts)
        return self._report

    def _fail(self, error: PolmError) -> None:
        self._report.error = error.as_dict()
        if isinstance(error, Unreadable) and not self._counts[error.rule]:
            self._note(error.row, error)
        for name in (ROWS_NAME, INDEX_NAME, UNPACKED_NAME):
            (self._draft / name).unlink(missing_ok=True)
        for name in (IMAGES_FOLDER, THUMBNAILS_FOLDER):
            shutil.rmtree(self._draft / name, ignore_errors=True)

    def _prepare(self, source: ByteSource) -> None:
        if self._job.convert_from is not None:
            self._convert(source, self._job.convert_from)
            return
        if self._job.filename.lower().endswith(ARCHIVE_SUFFIX):
            self._prepare_archive(source)
        else:
            self._prepare_file(source, self._job.filename)

    def _prepare_archive(self, source: ByteSource) -> None:
        """Rows and their images out of a zip."""
        with ImageArchive(source.path, self._limits) as archive:
            self._archive = archive
            unpacked = archive.extract_rows(self._draft / UNPACKED_NAME)
            with ByteSource(unpacked, self._limits) as rows:
                self._prepare_file(rows, Path(archive.rows_name).name)
            unpacked.unlink()
            stats = self._report.stats
            stats.images, stats.image_bytes, stats.image_sizes = archive.images, archive.image_bytes, archive.sizes

    def _prepare_file(self, source: ByteSource, filename: str) -> None:
        self._tell(Phase.DETECTING, source)
        report = self._report
        report.file = identify(source, filename, self._limits)
        head = read_head(source, report.file, self._limits.sample_rows)
        rows = [row for _, row in head.rows]
        columns = observe(rows)
        report.columns = as_columns(columns, len(rows))
        (self._draft / HEAD_NAME).write_bytes(encoded_head(head.rows))
        self._choose(detect(rows, columns), head)
        if report.format is Format.IMAGE_CONVERSATION and self._archive is None:
            raise _images_missing()
        self._write_rows(source)

    def _choose(self, detection: Detection, head: Head) -> None:
        """Settle format and mapping: those asked for, else the likeliest."""
        report, job = self._report, self._job
        report.alternatives = detection.candidates
        if job.mapping is not None:
            if head.rows:
                job.mapping.check({column.path for column in report.columns})
            report.mapping, report.format = job.mapping, job.mapping.format
            report.confidence, report.why = 1.0, "chosen by hand"
            return
        best = detection.of_format(job.format) if job.format else detection.best()
        if best is not None:
            report.format, report.mapping = best.format, best.mapping
            report.confidence, report.why = best.confidence, best.why
            report.alternatives = [candidate for candidate in detection.candidates if candidate is not best]
        elif head.rows:
            # A file that breaks off says more by that than by its columns.
            raise head.fault or self._undetected(detection)

    def _undetected(self, detection: Detection) -> DataError:
        found = ", ".join(column.path for column in self._report.columns[:12]) or "none"
        wanted = f"a mapping to '{self._job.format}'" if self._job.format else "a known format"
        misses = [miss for miss in detection.misses if self._job.format in (None, miss.format)]
        if misses:
            return DataError(f"{misses[0].why}.", code="data.format", advice=misses[0].remedy)
        return DataError(
            f"The columns do not suggest {wanted}. Columns: {found}.",
            code="data.format",
            advice="Say which column plays which role in the mapping, or name the columns as the format does: "
            "messages; prompt and completion; prompt, chosen and rejected; prompt, completion and label; "
            "prompt and answer; prompt, completions and labels; prompt; text.",
        )

    def _write_rows(self, source: ByteSource) -> None:
        report, stats, unreadable = self._report, StatsCollector(), None
        with RowsWriter(self._draft) as writer:
            for number, row in iter_rows(source, _file(report), _top_columns(report)):
                report.rows_total += 1
                self._tell(Phase.PREPARING, source)
                try:
                    canonical = self._with_images(self._mapped(row))
                    line = encode_row(canonical)
                except RowProblem as problem:
                    self._note(number, problem)
                    if isinstance(problem, Unreadable):
                        unreadable = unreadable or problem
                        if self._counts[problem.rule] >= self._limits.max_problems:
                            break
                    continue
                stats.add(canonical, line)
                writer.write(line)
                report.rows_used += 1
        self._tell(Phase.FINISHING, source, now=True)
        if unreadable is not None:
            raise unreadable
        self._check_share()
        report.sha256, report.bytes = writer.sha256, writer.bytes
        empty = sum(count for rule, count in self._counts.items() if rule.endswith((".empty", ".empty-content")))
        report.stats = stats.result(empty)

    def _convert(self, source: ByteSource, origin: Format) -> None:
        """Canonical rows need no reading, only turning into others."""
        report, target = self._report, self._job.format or origin
        rows = self._canonical(source)
        if self._job.choice is not None:
            rows = self._job.choice.chosen(rows, self._job.rows)
        self._keep(convert_rows(rows, origin, target), target)
        self._tell(Phase.FINISHING, source, now=True)
        if not report.rows_used:
            raise _nothing_chosen(report.rows_total) if self._job.choice else _nothing_converted(report, origin, target)
        if origin != target:
            report.why = f"converted from {report.rows_total:,} rows of {SPECS[origin].title.lower()}"
        report.rows_total = report.rows_used

    def _mix(self, mixture: Mixture) -> None:
        """Canonical rows of several sources."""
        if self._job.format is None:
            raise RuntimeError("there is no format to mix rows of")
        with ExitStack() as opened:
            files = [opened.enter_context(ByteSource(one.path, self._limits)) for one in mixture.sources]
            rows = mixed([self._canonical(file) for file in files], mixture.sources, mixture.seed)
            self._keep(rows, self._job.format)
        self._tell(Phase.FINISHING, now=True)
        self._report.rows_total = self._report.rows_used

    def _make(self) -> None:
        """Rows that a task makes up."""
        self._keep(self._made(), Format.PROMPT_ANSWER)
        self._tell(Phase.FINISHING, now=True)

    def _made(self) -> Iterator[Row]:
        from polm_core.gym.library import task_rows

        if self._job.task is None:
            raise RuntimeError("there is no task to make rows")
        for row in task_rows(self._job.task):
            yield row
            self._report.rows_total += 1
            self._tell(Phase.MAKING)

    def _keep(self, rows: Iterable[Row], format_: Format) -> None:
        """Write canonical rows of that format as they come."""
        report, stats = self._report, StatsCollector()
        report.format, report.confidence = format_, 1.0
        with RowsWriter(self._draft) as writer:
            for row in rows:
                line = encode_row(row)
                stats.add(row, line)
                writer.write(line)
                report.rows_used += 1
        report.sha256, report.bytes = writer.sha256, writer.bytes
        report.stats = stats.result(0)

    def _canonical(self, source: ByteSource) -> Iterator[Row]:
        # A row that was let in once may have become longer than the limit by its mapping.
        unlimited = self._limits.model_copy(update={"max_row_bytes": self._limits.max_bytes})
        for line in lines(source.chunks(), unlimited):
            self._report.rows_total += 1
            self._tell(Phase.PREPARING, source)
            yield orjson.loads(line)

    def _mapped(self, row: Row | RowProblem) -> Row:
        if isinstance(row, RowProblem):
            raise row
        if self._report.mapping is None:
            raise RowProblem(
                "row.format-unknown",
                "No row at the head of the file can be used, so its format is not known.",
                "Mend the rows before, or give a mapping.",
            )
        return apply_mapping(row, self._report.mapping)

    def _with_images(self, row: Row) -> Row:
        """The row with its images kept, and called as they are kept."""
        if self._archive is None or self._report.format is not Format.IMAGE_CONVERSATION:
            return row
        return {**row, "images": [self._archive.keep(name, self._draft) for name in row["images"]]}

    def _check_share(self) -> None:
        report = self._report
        if not report.rows_total:
            raise DataError("The file holds no rows.", code="data.empty", advice="Upload a file with at least one row.")
        common = max(self._counts, key=lambda rule: self._counts[rule], default="")
        example = next((problem for problem in report.problems if problem.rule == common), Problem(rule="", message=""))
        most = f"Most often, first in row {example.row or 0:,}: {example.message}"
        if not report.rows_used:
            raise DataError(
                f"No row of {report.rows_total:,} can be used. {most}",
                code="data.no-usable-rows",
                advice=example.remedy,
            )
        by_nature = sum(self._counts[rule] for rule in DROPPED_BY_NATURE)
        bad = report.rows_total - report.rows_used - by_nature
        if bad > self._limits.max_bad_share * report.rows_total:
            raise DataError(
                f"{bad:,} of {report.rows_total:,} rows cannot be used; "
                f"at most {self._limits.max_bad_share:.0%} may be so. {most}",
                code="data.too-many-problems",
                advice=example.remedy,
            )

    def _note(self, row: int | None, problem: RowProblem) -> None:
        self._counts[problem.rule] += 1
        if len(self._report.problems) < self._limits.max_problems:
            self._report.problems.append(
                Problem(
                    row=row,
                    column=problem.column,
                    rule=problem.rule,
                    message=problem.message,
                    remedy=problem.advice,
                )
            )

    def _tell(self, phase: Phase, source: ByteSource | None = None, *, now: bool = False) -> None:
        clock = time.monotonic()
        if now or clock - self._told >= _PROGRESS_SECONDS:
            self._told = clock
            done, total = (source.position, source.size) if source is not None else (0, 0)
            progress = PrepareProgress(phase=phase, bytes_done=done, bytes_total=total, rows=self._report.rows_total)
            write_atomic(self._draft / PROGRESS_NAME, progress.model_dump_json())


def _nothing_chosen(rows: int) -> DataError:
    return DataError(
        f"None of {rows:,} rows fits what was asked for.",
        code="data.nothing-chosen",
        advice="Ask for less, or for another share.",
    )


def _nothing_converted(report: PrepareReport, origin: Format, target: Format) -> DataError:
    says = CONVERSIONS[origin, target].says if origin != target else "There is none."
    title = SPECS[target].title.lower()
    return DataError(
        f"None of {report.rows_total:,} rows gives one of the format {title}, which takes: {says}",
        code="data.nothing-converted",
        advice="Convert to another format, or add rows that have what this one needs.",
    )


def _images_missing() -> DataError:
    return DataError(
        "The rows name images, and the file holds none.",
        code="data.no-images",
        advice="Upload a zip with the JSONL file and the images beside it, or map the columns to another format.",
    )


def _file(report: PrepareReport) -> FileFacts:
    if report.file is None:
        raise RuntimeError("the file was not identified")
    return report.file


def _top_columns(report: PrepareReport) -> list[str] | None:
    """The top-level columns that the mapping reads; a path may name a nested value, or have dots of its own."""
    if report.mapping is None:
        return None
    known = [column.path for column in report.columns]
    return [path for path in known if any(_within(mapped, path) for mapped in report.mapping.columns.values())]


def _within(mapped: str, path: str) -> bool:
    return mapped == path or mapped.startswith(f"{path}.")


def encode_row(row: Row) -> bytes:
    """One line of `rows.jsonl`. Raises `RowProblem` for text that JSON readers or databases cannot hold."""
    try:
        line = orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE)
    except TypeError as error:
        if "surrogates" in str(error):
            raise RowProblem(
                "text.surrogate",
                "A text holds half a character (a lone surrogate such as \\ud83d).",
                "It was cut in the middle of an emoji or a rare character: write the whole character.",
            ) from error
        raise RowProblem(
            "value.not-json", f"A value cannot be written as JSON ({error}).", "Use text, numbers, lists and objects."
        ) from error
    if b"\\u0000" in line and _ENCODED_NUL.search(line):
        raise RowProblem("text.nul", "A text holds a NUL character.", "Remove it: it is not text.")
    return line


def _disk_error(error: OSError, limits: Limits) -> PolmError:
    """What a person can do about a full disk or an output over its bound; other faults are raised again."""
    if error.errno == errno.EFBIG:
        return DataError(
            f"The prepared rows would be over {human_bytes(limits.output_bytes)}.",
            code="data.too-large",
            advice="Split the file into smaller datasets.",
        )
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return ResourceError("The disk is full.", code="resource.disk", advice="Free some space and upload again.")
    raise error


def main(arguments: list[str]) -> int:
    """Prepare what the job file asks for. Answers the exit code: 0 with a report, 2 for a job that makes no sense."""
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m polm_core.data.prepare job.yaml\n")
        return 2
    try:
        job = PrepareJob.model_validate(yaml.safe_load(Path(arguments[0]).read_text(encoding="utf-8")))
    except (OSError, yaml.YAMLError, ValidationError) as error:
        sys.stderr.write(f"{arguments[0]}: {error}\n")
        return 2
    limit_process(job.limits)
    prepare(job)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

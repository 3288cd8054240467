"""Faults of single rows, apart from faults of a whole file (`DataError`)."""

from polm_core.errors import DataError


class RowProblem(DataError):
    """A row that cannot be used. It is dropped and counted; the file is still good if few rows are like it.

    `rule` is stable and machine-readable (`preference.no-prompt`), `advice` says what would be right.
    """

    code = "data.row"

    def __init__(self, rule: str, message: str, advice: str = "", *, column: str | None = None) -> None:
        super().__init__(message, advice=advice)
        self.rule = rule
        self.column = column


class Unreadable(RowProblem):
    """A place in the file that does not parse: the whole file is invalid.

    Readers yield it when they can go on with the next row and raise it when they cannot. `row` counts from 1.
    """

    code = "data.unreadable"

    def __init__(self, row: int | None, rule: str, message: str, advice: str = "") -> None:
        super().__init__(rule, message, advice)
        self.row = row

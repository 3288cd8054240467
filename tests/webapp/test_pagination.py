"""Lists by the page."""

import base64
import uuid

import pytest

from webapp.accounts.models import AuditEvent, SignInAttempt
from webapp.errors import Invalid
from webapp.pagination import page


def _events(count: int) -> list[AuditEvent]:
    return [AuditEvent.objects.create(verb=str(number)) for number in range(count)]


def test_pages_join_to_the_whole_list_newest_first(db: None) -> None:
    _events(7)
    seen, cursor, sizes = [], None, []
    while True:
        items, cursor = page(AuditEvent.objects.all(), 3, cursor)
        seen += [item.verb for item in items]
        sizes.append(len(items))
        if cursor is None:
            break
    assert seen == ["6", "5", "4", "3", "2", "1", "0"]
    assert sizes == [3, 3, 1]


def test_a_last_page_that_is_full_has_no_successor(db: None) -> None:
    _events(4)
    _, cursor = page(AuditEvent.objects.all(), 2)
    assert page(AuditEvent.objects.all(), 2, cursor)[1] is None


def test_rows_that_come_meanwhile_neither_repeat_nor_shift(db: None) -> None:
    _events(4)
    first, cursor = page(AuditEvent.objects.all(), 2)
    _events(2)
    second, _ = page(AuditEvent.objects.all(), 2, cursor)
    assert [item.verb for item in first + second] == ["3", "2", "1", "0"]


def test_number_keys_work_as_well(db: None) -> None:
    for _ in range(3):
        SignInAttempt.objects.create(key="k")
    items, cursor = page(SignInAttempt.objects.all(), 2)
    assert len(items) + len(page(SignInAttempt.objects.all(), 2, cursor)[0]) == 3


@pytest.mark.parametrize(
    "cursor", ["x", "!!!", "é", base64.urlsafe_b64encode(b"\xff\x00").decode(), "MTIz", "a" * 5000]
)
def test_a_made_up_cursor_is_refused(db: None, cursor: str) -> None:
    with pytest.raises(Invalid) as refusal:
        page(AuditEvent.objects.all(), 2, cursor)
    assert refusal.value.fields["cursor"]


def test_a_cursor_of_another_list_gives_no_error(db: None) -> None:
    cursor = base64.urlsafe_b64encode(str(uuid.uuid4()).encode()).decode()
    assert page(AuditEvent.objects.all(), 2, cursor) == ([], None)


@pytest.mark.parametrize("limit", [0, -1, 201])
def test_the_limit_has_bounds(db: None, limit: int) -> None:
    with pytest.raises(Invalid) as refusal:
        page(AuditEvent.objects.all(), limit)
    assert refusal.value.fields["limit"]

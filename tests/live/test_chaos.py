"""The quick part of the fault campaign: servers die, a run hangs, its disk is full. `make chaos` is all of it."""

from collections.abc import Iterator

import pytest

from tests.chaos.__main__ import attempt, campaign
from tests.chaos.cluster import Cluster
from tests.chaos.faults import Fault
from tests.chaos.table import FAULTS
from tests.chaos.watch import Watcher

pytestmark = [pytest.mark.live, pytest.mark.alone, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def under_attack() -> Iterator[tuple[Cluster, Watcher]]:
    with campaign() as found:
        yield found


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault.quick], ids=lambda fault: fault.name)
def test_nothing_is_lost_and_nothing_done_twice(under_attack: tuple[Cluster, Watcher], fault: Fault) -> None:
    if reason := fault.obstacle():
        pytest.skip(reason)
    row = attempt(*under_attack, fault)
    # The time to recover is for the campaign's table: on a busy machine it says little.
    assert row["figure"] is not None, row["note"]
    assert row["problems"] == []

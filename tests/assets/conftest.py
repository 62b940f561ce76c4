from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from dagster._core.storage.defs_state.base import set_defs_state_storage

from k2_core import clock
from tests.assets.lakes import SmallLake


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[SmallLake]:
    made = SmallLake(tmp_path / "home")
    yield made
    made.catalog.close()


@pytest.fixture(autouse=True)
def no_instance_of_an_earlier_test() -> Iterator[None]:
    """Dagster loads definitions with the storage of the instance that was opened last, also when that is gone."""
    with set_defs_state_storage(None):
        yield


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Let hours pass for the maintenance alone."""
    real, passed = clock.now_ns, [0.0]

    def now_ns() -> int:
        return real() + int(passed[0] * 3_600 * clock.NS_PER_SECOND)

    def pass_hours(hours: float) -> None:
        passed[0] += hours

    monkeypatch.setattr("k2_assets.maintenance.table_round.clock.now_ns", now_ns)
    return pass_hours

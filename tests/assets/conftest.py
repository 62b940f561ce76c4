from collections.abc import Iterator
from pathlib import Path

import pytest
from dagster._core.storage.defs_state.base import set_defs_state_storage

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

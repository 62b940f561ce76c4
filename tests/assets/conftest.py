from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.assets.lakes import SmallLake


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[SmallLake]:
    made = SmallLake(tmp_path / "home")
    yield made
    made.catalog.close()

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from k2_api.app import create_app
from tests.api.lakes import KEY, Lake


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[Lake]:
    made = Lake(tmp_path / "home")
    yield made
    made.catalog.engine.dispose()


@pytest.fixture
def client_of() -> Iterator[Callable[[Lake], TestClient]]:
    """Return a function that serves a lake; every client it gave is closed at the end."""
    clients: list[TestClient] = []

    def serve(lake: Lake) -> TestClient:
        client = TestClient(create_app(lake.settings), headers={"X-API-Key": KEY})
        clients.append(client)
        return client.__enter__()

    yield serve
    for client in clients:
        client.__exit__(None, None, None)


@pytest.fixture
def client(lake: Lake, client_of: Callable[[Lake], TestClient]) -> TestClient:
    return client_of(lake)

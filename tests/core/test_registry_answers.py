"""What only looks like an answer of the registry: a proxy before it, or another server at its address."""

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest

from k2_core.errors import RegistryError
from k2_core.registry import Registry


class NothingHere(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(404)
        self.end_headers()
        self.wfile.write(b"<html>nothing here</html>")

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def other_server() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), NothingHere) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_of_several_registries_the_next_is_asked_where_one_is_not_there(other_server: str) -> None:
    with (
        Registry(f"http://127.0.0.1:1, {other_server}") as registry,
        pytest.raises(RegistryError, match="nothing here"),
    ):
        registry.schema(1)


def test_a_404_that_is_not_the_registrys_own_is_no_answer(other_server: str) -> None:
    with Registry(other_server) as registry:
        with pytest.raises(RegistryError, match="could not look up schema 1"):
            registry.schema(1)
        with pytest.raises(RegistryError, match="could not look up the schema of a-value"):
            registry.latest("a-value")

"""A webhook that is really there: takes what apprise posts, or refuses, or drops the connection."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

OK, BROKEN, DROPS = 200, 500, None
SECRET = "s3cr3tT0kenOfTheHook"  # noqa: S105  # of no real hook


class Webhook:
    """What a webhook was sent, and what it answers: a status, or None to drop the connection without an answer."""

    def __init__(self, port: int) -> None:
        self.answers: int | None = OK
        self.taken: list[dict[str, Any]] = []
        self.refused = 0
        self.on_post: Callable[[], None] = lambda: None
        self.url = f"json://someone:{SECRET}pw@127.0.0.1:{port}/{SECRET}/hook?+X-Key={SECRET}hd"
        self.host = "127.0.0.1"

    @property
    def titles(self) -> list[str]:
        return [each["title"] for each in self.taken]


@contextmanager
def a_webhook() -> Iterator[Webhook]:
    class Answer(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            hook.on_post()
            if hook.answers == OK:
                hook.taken.append(json.loads(body))
            else:
                hook.refused += 1
            if hook.answers is None:
                return  # closes the connection
            self.send_response(hook.answers)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        hook = Webhook(server.server_port)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield hook
        finally:
            server.shutdown()
            thread.join()

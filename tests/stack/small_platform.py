"""A platform of two tiny parts under the real supervisor, for tests: programs that serve a folder, and a descendant.

The feed's descendant ignores SIGTERM and leads a session of its own, as badly as a process can behave.
"""

import sys

import httpx

from k2_core.errors import K2Error
from k2_core.settings import Settings, load_settings
from k2_stack import run
from k2_stack.parts import Part
from k2_stack.probes import Answer, Silent

HTTP = httpx.Client(trust_env=False, timeout=2, limits=httpx.Limits(max_keepalive_connections=0))
SERVE = """
import sys
from http.server import HTTPServer, SimpleHTTPRequestHandler
HTTPServer(("127.0.0.1", int(sys.argv[1])), SimpleHTTPRequestHandler).serve_forever()
"""
STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
BREED = f"""
import os, pathlib, signal, subprocess, sys, time
own = pathlib.Path("feed.pid")
if "--take-over" in sys.argv:
    if pathlib.Path("unable").exists():
        sys.exit(3)
    predecessor = int(own.read_text())
    os.kill(predecessor, signal.SIGTERM)
    while pathlib.Path(f"/proc/{{predecessor}}/fd/0").exists():
        time.sleep(0.05)
own.write_text(str(os.getpid()))
subprocess.Popen([sys.executable, "-c", {STUBBORN!r}], start_new_session=True)
{SERVE}"""


def probe(port: int) -> Answer:
    try:
        HTTP.get(f"http://127.0.0.1:{port}/")
    except httpx.HTTPError as error:
        raise Silent(str(error)) from None
    return Answer()


def plan(settings: Settings, failing: str) -> list[Part]:
    registry, feed = settings.ports.registry, settings.ports.feed_health
    return [
        Part("tables", command=lambda: [sys.executable, "-c", failing]),
        Part(
            "registry",
            command=lambda: [sys.executable, "-c", SERVE, str(registry)],
            probe=lambda _: probe(registry),
            ports={registry: "registry"},
            url=f"http://127.0.0.1:{registry}",
        ),
        Part(
            "feed",
            after=("tables", "registry"),
            command=lambda: [sys.executable, "-c", BREED, str(feed)],
            probe=lambda _: probe(feed),
            ports={feed: "feed_health"},
            handover=settings.home / "handover.request",
        ),
    ]


if __name__ == "__main__":
    try:
        settings = load_settings()
        run.supervise(settings, plan(settings, sys.argv[1] if len(sys.argv) > 1 else ""), "simulator")
    except K2Error as error:
        sys.stderr.write(f"k2: {error}\n")
        sys.exit(1)

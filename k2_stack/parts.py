"""The parts of the platform as data: what starts each, what it waits for, how it is asked whether it serves."""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from k2_core.settings import Settings
from k2_feeds.handover import request_file
from k2_stack import java, probes
from k2_stack.probes import Answer
from k2_stack.trade_sources import Source

WITHOUT_VENUE: Final = "for data without the venue: k2 up --source simulator"
GRPC_TIMEOUT_S: Final = 600
FIRST_TO_END: Final = ("dagster-daemon",)  # it calls a run failed whose process ends before it while starting
LAST_TO_END: Final = ("registry", "broker")  # the others still write to them while they end


def _nothing() -> dict[str, str]:
    return {}


@dataclass(frozen=True)
class Part:
    """One part, or a step: work that must have ended before parts can start.

    Args:
        name: as users see it.
        after: parts and steps that must serve, or have ended, first.
        command: makes the command; None for a part that the user runs, which is only asked.
        probe: asks the part, given when its process was started (seconds since the epoch); None for a step.
        ports: port → the field of ``settings.ports`` that it comes from.
        url: where people or programs find it.
        environment: makes what is added to the environment, just before the start.
        handover: a file that somebody writes to have a successor take over; None for a part that cannot do that.
    """

    name: str
    after: tuple[str, ...] = ()
    command: Callable[[], list[str]] | None = None
    probe: Callable[[float], Answer] | None = None
    ports: dict[int, str] = field(default_factory=dict)
    url: str | None = None
    environment: Callable[[], dict[str, str]] = _nothing
    handover: Path | None = None

    @property
    def is_step(self) -> bool:
        """Whether this is work that ends."""
        return self.probe is None


def plan(settings: Settings, source: Source) -> list[Part]:
    """Return the steps and parts of a platform, in the order in which they are shown."""
    parts = [
        *_broker(settings),
        *_registry(settings),
        *([_simulator(settings, source)] if source.simulated else []),
        _step("tables"),
        _step("dagster-home"),
        _feed(settings, source),
        _dagster_code(settings, source),
        _dagster_webserver(settings),
        _dagster_daemon(settings),
        _api(settings),
    ]
    names = {part.name for part in parts}
    assert all(name in names for part in parts for name in part.after)  # noqa: S101  # a misspelt name waits for ever
    return parts


def _step(name: str) -> Part:
    return Part(name, command=lambda: [sys.executable, "-m", "k2_stack.prepare", name])


def _broker(settings: Settings) -> list[Part]:
    address = settings.bootstrap_servers
    if settings.kafka.bootstrap_servers:
        return [Part("broker", probe=lambda _: probes.broker(address), url=address)]
    ports = {settings.ports.kafka: "kafka", settings.ports.kafka_controller: "kafka_controller"}
    return [
        _step("kafka-files"),
        Part(
            "broker",
            after=("kafka-files",),
            command=lambda: java.broker_command(settings),
            probe=lambda _: probes.broker(address),
            ports=ports,
            url=address,
        ),
    ]


def _registry(settings: Settings) -> list[Part]:
    url = settings.registry_url
    if settings.registry.url:
        return [Part("registry", probe=lambda _: probes.registry(url), url=url)]
    ports = {settings.ports.registry: "registry", settings.ports.registry_management: "registry_management"}
    return [
        _step("registry-files"),
        Part(
            "registry",
            after=("registry-files",),
            command=lambda: java.registry_command(settings),
            probe=lambda _: probes.own_registry(url),
            ports=ports,
            url=url,
        ),
    ]


def _simulator(settings: Settings, source: Source) -> Part:
    port = settings.ports.simulator
    return Part(
        "simulator",
        command=lambda: _k2("feed", "simulate", "--port", str(port), *source.simulator_arguments()),
        probe=lambda _: probes.simulator(port),
        ports={port: "simulator"},
        url=f"ws://127.0.0.1:{port}",
        environment=lambda: {
            "K2_SIMULATOR__WAIT_FOR_ALL": "true"
        },  # the feed subscribes to every symbol of a recording
    )


def _feed(settings: Settings, source: Source) -> Part:
    port = settings.ports.feed_health
    return Part(
        "feed",
        after=("broker", "registry", *(("simulator",) if source.simulated else ())),
        command=lambda: _k2("feed", "run"),
        probe=lambda _: probes.feed(port, "" if source.simulated else WITHOUT_VENUE),
        ports={port: "feed_health"},
        url=f"http://127.0.0.1:{port}/health",
        environment=_venues(settings, source),
        handover=request_file(settings),
    )


def _venues(settings: Settings, source: Source) -> Callable[[], dict[str, str]]:
    """Return what puts the simulator in the place of the venues that it speaks for; nothing when they are live."""
    port = settings.ports.simulator

    def simulated() -> dict[str, str]:
        found = probes.simulated_venues(port)
        made = {"K2_FEEDS__VENUES": json.dumps(list(found)), "K2_FEEDS__SOURCE": str(source)}
        for venue, symbols in found.items():
            prefix = f"K2_FEEDS__{venue.upper()}"
            made[f"{prefix}__URL"] = f"ws://127.0.0.1:{port}"
            made[f"{prefix}__REST_URL"] = f"http://127.0.0.1:{port}"
            made[f"{prefix}__SYMBOLS"] = json.dumps(symbols)
        return made

    return simulated if source.simulated else _nothing


def dagster_home(settings: Settings) -> Path:
    """Return the folder of Dagster's own data."""
    return settings.home / "dagster"


def workspace_file(settings: Settings) -> Path:
    """Return the file that tells webserver and daemon where the code server is."""
    return dagster_home(settings) / "workspace.yaml"


def _patient(more: Callable[[], dict[str, str]] = _nothing) -> Callable[[], dict[str, str]]:
    """Return what a part of Dagster's has in its environment: patience with a code server on a busy machine.

    Launching a run waits until its process has loaded Python; a tick of a sensor and every other call waits as long.
    It is longer than run_monitoring's start_timeout_seconds in dagster.yaml, which alone gives up on a run: a process
    that comes up later then sees that its run is over, and does nothing. A backfill waits for a server that is away.
    """
    own = {
        "DAGSTER_GRPC_TIMEOUT_SECONDS": str(GRPC_TIMEOUT_S),
        "DAGSTER_BACKFILL_RETRY_DEFINITION_CHANGED_ERROR": "1",  # only while no definitions are loaded
    }
    return lambda: own | more()


def _dagster_code(settings: Settings, source: Source) -> Part:
    port = settings.ports.dagster_code
    # Threads: launches, ticks and pages that wait must leave some for the probe, else a busy server looks dead.
    flags = (
        *("--use-python-environment-entry-point", "--log-level", "warning", "--location-name", "k2"),
        *("--max-workers", "24"),
    )
    serve = ("-m", "k2_assets.processes.code_server", "--host", "127.0.0.1", "--port", str(port), *flags)
    return Part(
        "dagster-code",
        after=("tables", "dagster-home", *(("simulator",) if source.simulated else ())),
        command=lambda: [sys.executable, *serve],
        probe=lambda _: probes.dagster_code(port),
        ports={port: "dagster_code"},
        environment=_patient(_venues(settings, source)),  # the instrument register asks the venues too
    )


def _dagster_webserver(settings: Settings) -> Part:
    port = settings.ports.dagster
    where = ("-h", "127.0.0.1", "-p", str(port), "-w", str(workspace_file(settings)))
    return Part(
        "dagster-webserver",
        after=("dagster-code",),
        command=lambda: [_script("dagster-webserver"), *where],
        probe=lambda _: probes.dagster_webserver(port),
        ports={port: "dagster"},
        url=f"http://127.0.0.1:{port}",
        environment=_patient(),
    )


def _dagster_daemon(settings: Settings) -> Part:
    return Part(
        "dagster-daemon",
        after=("dagster-code", "feed"),  # the feed has made the topics that a drain reads
        command=lambda: [sys.executable, "-m", "k2_assets.processes.daemon", "-w", str(workspace_file(settings))],
        probe=lambda started_s: probes.dagster_daemon(settings.ports.dagster, started_s),
        environment=_patient(),
    )


def _api(settings: Settings) -> Part:
    port, url = settings.ports.api, f"http://127.0.0.1:{settings.ports.api}"
    return Part(
        "api",
        after=("tables",),
        command=lambda: _k2("api"),
        probe=lambda _: probes.api(url),
        ports={port: "api"},
        url=url,
    )


def _k2(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "k2_stack", *arguments]


def _script(name: str) -> str:
    return str(Path(sys.executable).with_name(name))

"""The parts of the platform as data: what starts each, what it waits for, what asks it whether it serves."""

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
FIRST_TO_END: Final = ("dagster-daemon",)  # it marks a run as failed whose process ends while starting
LAST_TO_END: Final = ("registry", "broker")  # the others still write to them while they end
_K2: Final = (sys.executable, "-m", "k2_stack")
# Dagster's parts wait for a code server on a busy machine. Launching a run waits until its process has loaded Python; a
# tick of a sensor and every other call wait as long. The timeout must exceed start_timeout_seconds of run_monitoring in
# dagster.yaml, which alone gives up on a run: a process that comes up later sees that its run is over, and ends.
_PATIENT: Final = {
    "DAGSTER_GRPC_TIMEOUT_SECONDS": str(GRPC_TIMEOUT_S),
    "DAGSTER_BACKFILL_RETRY_DEFINITION_CHANGED_ERROR": "1",  # a backfill waits while no definitions are loaded
}


@dataclass(frozen=True)
class Part:
    """One part, or a step: work that must have ended before parts can start.

    Args:
        name: as users see it.
        after: parts and steps that must serve, or have ended, first.
        command: returns the command; None for a part that the user runs, which is only asked.
        probe: asks the part whether it serves; gets the start of its process (seconds since 1970). None for a step.
        ports: port → the field of ``settings.ports`` that it comes from.
        url: where people or programs find it.
        environment: returns more variables for its environment; called just before each start.
        handover: a file that somebody writes to have a successor take over; None for a part that cannot do that.
    """

    name: str
    after: tuple[str, ...] = ()
    command: Callable[[], list[str]] | None = None
    probe: Callable[[float], Answer] | None = None
    ports: dict[int, str] = field(default_factory=dict)
    url: str | None = None
    environment: Callable[[], dict[str, str]] = dict
    handover: Path | None = None

    @property
    def is_step(self) -> bool:
        """Whether this is work that ends."""
        return self.probe is None


def plan(settings: Settings, source: Source) -> list[Part]:
    """Return the steps and parts of a platform, in the order in which they are shown."""
    api, feed, simulator = settings.ports.api, settings.ports.feed_health, settings.ports.simulator
    parts = _kafka_and_registry(settings)
    if source.simulated:
        parts.append(
            Part(
                "simulator",
                command=lambda: [*_K2, "feed", "simulate", "--port", str(simulator), *source.simulator_arguments()],
                probe=lambda _: probes.simulator(simulator),
                ports={simulator: "simulator"},
                url=f"ws://127.0.0.1:{simulator}",
                # A recording waits for the feed, which subscribes to all of its symbols.
                environment=lambda: {"K2_SIMULATOR__WAIT_FOR_ALL": "true"},
            )
        )
    parts += [
        _step("tables"),
        _step("dagster-home"),
        Part(
            "feed",
            after=("broker", "registry", *(("simulator",) if source.simulated else ())),
            command=lambda: [*_K2, "feed", "run"],
            probe=lambda _: probes.feed(feed, "" if source.simulated else WITHOUT_VENUE),
            ports={feed: "feed_health"},
            url=f"http://127.0.0.1:{feed}/health",
            environment=lambda: _venues(settings, source),
            handover=request_file(settings),
        ),
        *_dagster(settings, source),
        Part(
            "api",
            after=("tables",),
            command=lambda: [*_K2, "api"],
            probe=lambda _: probes.api(f"http://127.0.0.1:{api}"),
            ports={api: "api"},
            url=f"http://127.0.0.1:{api}",
        ),
    ]
    names = {part.name for part in parts}
    assert all(name in names for part in parts for name in part.after)  # noqa: S101  # a misspelt name waits for ever
    return parts


def _step(name: str) -> Part:
    return Part(name, command=lambda: [sys.executable, "-m", "k2_stack.prepare", name])


def _kafka_and_registry(settings: Settings) -> list[Part]:
    address, url, ports = settings.bootstrap_servers, settings.registry_url, settings.ports
    # Settings that name a broker or a registry of the user's own: K2 asks it, and neither starts nor ends it.
    parts = []
    if settings.kafka.bootstrap_servers:
        parts.append(Part("broker", probe=lambda _: probes.broker(address), url=address))
    else:
        parts.append(_step("kafka-files"))
        parts.append(
            Part(
                "broker",
                after=("kafka-files",),
                command=lambda: java.broker_command(settings),
                probe=lambda _: probes.broker(address),
                ports={ports.kafka: "kafka", ports.kafka_controller: "kafka_controller"},
                url=address,
            )
        )
    if settings.registry.url:
        parts.append(Part("registry", probe=lambda _: probes.registry(url), url=url))
    else:
        parts.append(_step("registry-files"))
        parts.append(
            Part(
                "registry",
                after=("registry-files",),
                command=lambda: java.registry_command(settings),
                probe=lambda _: probes.own_registry(url),
                ports={ports.registry: "registry", ports.registry_management: "registry_management"},
                url=url,
            )
        )
    return parts


def _venues(settings: Settings, source: Source) -> dict[str, str]:
    """Return the settings that put the simulator in the place of the venues that it simulates; none when live."""
    if not source.simulated:
        return {}
    # Asked from the simulator that runs: a recording decides which venues and symbols there are.
    port = settings.ports.simulator
    found = probes.simulated_venues(port)
    variables = {"K2_FEEDS__VENUES": json.dumps(list(found)), "K2_FEEDS__SOURCE": str(source)}
    for venue, symbols in found.items():
        prefix = f"K2_FEEDS__{venue.upper()}"
        variables[f"{prefix}__URL"] = f"ws://127.0.0.1:{port}"
        variables[f"{prefix}__REST_URL"] = f"http://127.0.0.1:{port}"
        variables[f"{prefix}__SYMBOLS"] = json.dumps(symbols)
    return variables


def dagster_home(settings: Settings) -> Path:
    """Return the folder of Dagster's own data."""
    return settings.home / "dagster"


def workspace_file(settings: Settings) -> Path:
    """Return the file in which webserver and daemon find the code server's address."""
    return dagster_home(settings) / "workspace.yaml"


def _dagster(settings: Settings, source: Source) -> list[Part]:
    code, webserver, workspace = settings.ports.dagster_code, settings.ports.dagster, str(workspace_file(settings))
    listen = ("--host", "127.0.0.1", "--port", str(code))
    # Launches, ticks and pages that wait must leave some threads for the probe, else a busy server looks dead.
    flags = (
        *("--use-python-environment-entry-point", "--log-level", "warning", "--location-name", "k2"),
        *("--max-workers", "24"),
    )
    return [
        Part(
            "dagster-code",
            after=("tables", "dagster-home", *(("simulator",) if source.simulated else ())),
            command=lambda: [sys.executable, "-m", "k2_assets.processes.code_server", *listen, *flags],
            probe=lambda _: probes.dagster_code(code),
            ports={code: "dagster_code"},
            environment=lambda: _PATIENT | _venues(settings, source),  # the instrument register asks the venues too
        ),
        Part(
            "dagster-webserver",
            after=("dagster-code",),
            command=lambda: [
                str(Path(sys.executable).with_name("dagster-webserver")),
                *("-h", "127.0.0.1", "-p", str(webserver), "-w", workspace),
            ],
            probe=lambda _: probes.dagster_webserver(webserver),
            ports={webserver: "dagster"},
            url=f"http://127.0.0.1:{webserver}",
            environment=lambda: _PATIENT,
        ),
        Part(
            "dagster-daemon",
            after=("dagster-code", "feed"),  # the feed has created the topics that a drain reads
            command=lambda: [sys.executable, "-m", "k2_assets.processes.daemon", "-w", workspace],
            probe=lambda started_s: probes.dagster_daemon(webserver, started_s),
            environment=lambda: _PATIENT,
        ),
    ]

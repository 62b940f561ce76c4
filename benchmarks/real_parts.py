"""A real broker, and a registry where it is needed, on free ports in a folder that goes afterwards."""

import os
import platform
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from k2_core import process_identity
from k2_core.settings import Ports, Settings, child_environment
from k2_stack import java, probes, processes
from k2_stack.probes import Answer

PORTS = ("kafka", "kafka_controller", "registry", "registry_management", "feed_health", "simulator")


@contextmanager
def real_parts(*, registry: bool = False) -> Iterator[Settings]:
    """Run the parts; yields the settings that lead to them."""
    with tempfile.TemporaryDirectory(prefix="k2-benchmark-") as home, ExitStack() as stack:
        settings = Settings(home=Path(home), ports=_free_ports())
        java.fetch_all(lambda _: None)
        java.prepare_broker(settings)
        stack.enter_context(_running(settings, "broker", java.broker_command(settings)))
        if registry:
            stack.enter_context(_running(settings, "registry", java.registry_command(settings)))
        yield settings


def machine() -> str:
    """Name the machine that figures come from."""
    load = os.getloadavg()[0]
    return f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores, load average {load:.1f} in the end"


@contextmanager
def _running(settings: Settings, name: str, command: list[str]) -> Iterator[None]:
    process = processes.start(command, log=settings.home / f"{name}.log", env=child_environment(), cwd=settings.home)
    leader = process_identity.of(process.pid)
    assert leader
    try:
        while not _serves(settings, name):
            assert process.poll() is None, f"the {name} ended"
            time.sleep(0.1)
        yield
    finally:
        processes.end([leader], grace_s=10)
        process.wait()


def _serves(settings: Settings, name: str) -> Answer | None:
    try:
        if name == "broker":
            return probes.broker(settings.bootstrap_servers)
        return probes.own_registry(settings.registry_url)
    except probes.NotYet:
        return None


def _free_ports() -> Ports:
    sockets = {name: socket.create_server(("127.0.0.1", 0)) for name in PORTS}
    ports = {name: each.getsockname()[1] for name, each in sockets.items()}
    for each in sockets.values():
        each.close()
    return Ports(**ports)

"""A broker that a test may kill."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from subprocess import Popen

from k2_core.settings import Settings, child_environment
from k2_stack import java, probes, processes
from tests.reliability.waiting import wait_until


@dataclass
class OwnBroker:
    """One broker with data of its own, of a home of its own."""

    settings: Settings
    process: "Popen[bytes] | None" = None

    def start(self) -> None:
        """Start it, or start it again with its data, and wait until it answers."""
        log = self.settings.home / "logs" / "broker.log"
        command = java.broker_command(self.settings)
        self.process = processes.start(command, log=log, env=child_environment(), cwd=self.settings.home)
        wait_until(self._answers, lambda: log.read_text()[-2000:])

    def kill(self) -> None:
        """Kill it."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def _answers(self) -> bool:
        try:
            probes.broker(self.settings.bootstrap_servers)
        except probes.NotYet:
            return False
        return True


@contextmanager
def an_own_broker(settings: Settings) -> Iterator[OwnBroker]:
    """Format a broker's storage, start it, and kill it in the end."""
    java.prepare_broker(settings)
    broker = OwnBroker(settings)
    broker.start()
    try:
        yield broker
    finally:
        broker.kill()

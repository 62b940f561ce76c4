"""Drains of one topic in processes of their own: started armed, replaced when they died, and judged at the end."""

from collections.abc import Mapping
from dataclasses import dataclass

from k2_core.settings import Settings
from tests.reliability.crash_topic import CrashTopic
from tests.reliability.crashes import Child, Crashes
from tests.reliability.lives import Conditions, drain_a_venue
from tests.reliability.measured import Faults

AS_USUAL = Conditions()


@dataclass
class Drains:
    """The drains of ``own_topic``."""

    own_topic: CrashTopic
    crashes: Crashes
    reliability: Faults

    def __post_init__(self) -> None:
        self.settings: Settings = self.own_topic.settings_of_drain()

    def table(self, layer: str) -> str:
        """Return the name of a layer's table, with which its points begin."""
        return self.own_topic.layers.specs[layer].name

    def start(self, conditions: Conditions = AS_USUAL, *, at: str = "", nth: int = 1, **changed: float) -> Child:
        """Start a drain, armed with a point or not; ``changed`` are settings of it."""
        settings = self.own_topic.settings_of_drain(**changed)
        return self.crashes.start(drain_a_venue, settings, self.own_topic.venue.VENUE, conditions, at=at, nth=nth)

    def drain_the_rest(self) -> float:
        """Drain until all of Kafka is in silver; return how long that took, the start of the process included."""
        arguments = (self.settings, self.own_topic.venue.VENUE, AS_USUAL, True)
        return self.crashes.start(drain_a_venue, *arguments).await_end()

    def judge(self, injected: Mapping[str, int]) -> None:
        """Drain the rest, then hold every row against what was produced; the outcome is recorded before asserted.

        Args:
            injected: how often each fault was before.
        """
        recovered_s = self.drain_the_rest()
        counts = self.own_topic.compare().counts()
        for fault, often in injected.items():
            self.reliability.record(fault, injected=often, recovered_s=recovered_s, **counts)
        self.own_topic.assert_everything_stands_once()

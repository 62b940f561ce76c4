"""What is wrong with a venue's feed now, with an event for each begin and each end."""

from typing import Final, Literal, Protocol

from k2_core.logs import logger
from k2_feeds.kafka.feed_events import Kind

State = Literal["silence", "stale", "lag", "skew", "sequence", "refused", "alias"]
STATES: Final[tuple[State, ...]] = ("silence", "stale", "lag", "skew", "sequence", "refused", "alias")
Wrong = dict[tuple[str, str], str]
"""What is wrong, as sentences: {(symbol, channel): text}, either of them empty when it concerns none."""
_log = logger(__name__)


class Notes(Protocol):
    """Where events of a venue go."""

    def note(self, kind: Kind, symbol: str = "", **details: str) -> None:
        """Take an event of the feed."""


class States:
    """Remember what is wrong, by state and by its subject: a symbol, a channel, or the venue."""

    def __init__(self, notes: Notes) -> None:
        self._notes = notes
        self._held: dict[tuple[State, str], Wrong] = {}

    def __contains__(self, state: State) -> bool:
        return any(wrong for (found, _), wrong in self._held.items() if found == state)

    @property
    def texts(self) -> dict[State, list[str]]:
        """The sentences of each state that is on."""
        found: dict[State, list[str]] = {}
        for (state, _), wrong in self._held.items():
            if wrong:
                found.setdefault(state, []).extend(wrong.values())
        return found

    def hold(self, state: State, now: Wrong, *, scope: str = "", begins: bool = True, ends: bool = True) -> None:
        """Update a state.

        Args:
            state: which.
            now: all that is wrong within ``scope``; empty if nothing is.
            scope: the part of the state that the caller judges.
            begins: whether to publish an event for what was not wrong before.
            ends: whether to publish one for what is no longer wrong.
        """
        before = self._held.get((state, scope), {})
        self._held[state, scope] = dict(now)
        for (symbol, channel), text in now.items():
            if begins and (symbol, channel) not in before:
                kind: Kind = "sequence_break" if state == "sequence" else state
                _log.warning(text, state=state, symbol=symbol)
                self._notes.note(kind, symbol, **_channel(channel), text=text)
        for symbol, channel in before.keys() - now.keys():
            if ends:
                self._notes.note("recovered", symbol, state=state, **_channel(channel))


def _channel(channel: str) -> dict[str, str]:
    return {"channel": channel} if channel else {}

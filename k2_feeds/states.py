"""What is wrong with a venue's feed at the moment, each with an event when it begins and one when it is over."""

from typing import Final, Literal, Protocol

from k2_core.logs import logger
from k2_feeds.feed_events import Kind

State = Literal["silence", "stale", "lag", "skew", "sequence", "refused"]
STATES: Final[tuple[State, ...]] = ("silence", "stale", "lag", "skew", "sequence", "refused")
_log = logger(__name__)


class Notes(Protocol):
    """Where events of a venue go."""

    def note(self, kind: Kind, symbol: str = "", **details: str) -> None:
        """Take something that happened to the feed."""


class States:
    """Remember what is wrong, by state and by what it is about: a symbol, a channel, or the venue."""

    def __init__(self, notes: Notes) -> None:
        self._notes = notes
        self._texts: dict[tuple[State, str, str], str] = {}

    def __contains__(self, state: State) -> bool:
        return any(found == state for found, _, _ in self._texts)

    @property
    def texts(self) -> dict[State, list[str]]:
        """What is to be said of each state that is on."""
        found: dict[State, list[str]] = {}
        for (state, _, _), text in self._texts.items():
            found.setdefault(state, []).append(text)
        return found

    def hold(self, state: State, now: dict[tuple[str, str], str], *, says: bool = True) -> None:
        """Bring a state to what is true now: {(symbol, channel): sentence}, empty when nothing is wrong.

        Args:
            state: which.
            now: what is wrong, all of it.
            says: whether events tell of it; not where others do already.
        """
        before = {(symbol, channel) for found, symbol, channel in self._texts if found == state}
        for (symbol, channel), text in now.items():
            if (symbol, channel) not in before and says:
                kind: Kind = "sequence_break" if state == "sequence" else state
                _log.warning(text, state=state, symbol=symbol)
                self._notes.note(kind, symbol, **({"channel": channel} if channel else {}), text=text)
            self._texts[state, symbol, channel] = text
        for symbol, channel in before - now.keys():
            del self._texts[state, symbol, channel]
            if says:
                about = {"channel": channel} if channel else {}
                self._notes.note("recovered", symbol, state=state, **about)

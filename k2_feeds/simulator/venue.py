"""One simulated venue: who is connected, what each is sent, and what its faults do to that. Opens no sockets."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol

from k2_feeds.simulator.board import Board, Message, Session
from k2_feeds.simulator.dialects import DIALECTS
from k2_feeds.simulator.market import Event, Quote
from k2_feeds.simulator.simulated_listings import Listing
from k2_feeds.simulator.truth_log import Truth

_HELD_S: Final = 0.9  # a message waits so long for one to change places with


class Receiver(Protocol):
    """A connected client, as a venue sees it."""

    session: Session

    def offer(self, frames: Iterable[bytes]) -> None:
        """Queue frames for sending, in order."""

    def break_mid_frame(self) -> None:
        """End the connection in the middle of the next frame."""

    def stall(self, seconds: float) -> None:
        """Send nothing for so long, then cut the client off as too slow."""

    def close(self, code: int, reason: str) -> None:
        """Close the connection."""


@dataclass
class Armed:
    """A fault of messages that has some left to do."""

    name: str
    left: int
    symbol: str | None
    channel: str | None
    over: asyncio.Event = field(default_factory=asyncio.Event)
    done: int = 0

    def concerns(self, message: Message) -> bool:
        """Whether a message is one that it may happen to."""
        if self.symbol is None and self.channel is None:
            return True
        event = message.event
        if event is None:
            return False
        channel = "quotes" if isinstance(event, Quote) else "trades"
        return self.symbol in {None, event.listing.symbol} and self.channel in {None, channel}

    def count(self) -> None:
        """Note that it happened once."""
        self.left, self.done = self.left - 1, self.done + 1
        if not self.left:
            self.over.set()


class _Held(NamedTuple):
    """A message that waits, rendered for each client, to be sent after the next one of its stream."""

    message: Message
    frames: list[tuple[Receiver, bytes]]
    armed: Armed


class Venue:
    """One venue with its listings and its clients."""

    def __init__(self, name: str, listings: Iterable[Listing], truth: Truth) -> None:
        self.name = name
        self.dialect = DIALECTS[name]
        self.board = Board(listings)
        self.truth = truth
        self.clients: set[Receiver] = set()
        self.armed: list[Armed] = []
        """Faults that happen to the next messages that concern them and that somebody subscribed to."""
        self.skew_us, self.stale_us = 0, 0
        self.limited_until = 0.0  # by the monotonic clock
        self.unsent = 0  # frames of symbols that waited for a connection when it ended
        self._held: _Held | None = None

    def subscribers(self) -> list[Receiver]:
        """Return the clients that are subscribed to something."""
        return [client for client in self.clients if client.session.subscribed]

    def answered(self) -> set[str]:
        """Return the streams of symbols whose subscriptions were answered, of all clients."""
        return set[str]().union(*(client.session.answered for client in self.clients))

    def publish(self, events: list[Event], now_us: int) -> None:
        """Let events happen: write the truth, tell whoever subscribed, keep them for those who will."""
        # Skew: the venue's clock is wrong, in events and in the times of its messages. Stale: only the events are old.
        # The truth has the times as they are sent, so that a reader can be compared with it.
        shift_us = self.skew_us - self.stale_us
        if shift_us:
            events = [
                event._replace(at_us=event.at_us + shift_us)
                if isinstance(event, Quote)
                else event._replace(trades=[each._replace(at_us=each.at_us + shift_us) for each in event.trades])
                for event in events
            ]
        self.truth.happened(events)
        self.truth.flush()
        if self.subscribers():
            self.deliver(self.dialect.messages(events, now_us + self.skew_us))
        else:
            for event in events:
                self.board.post(event)

    def deliver(self, messages: Iterable[Message]) -> list[Message]:
        """Offer messages to whoever subscribed, less and more what the faults at work do to them.

        Returns those that nobody is subscribed to.
        """
        clients = self.subscribers()
        if self.armed or self._held or self.board.silences:
            return [message for message in messages if not self._deliver_disturbed(message, clients)]
        # The usual case, for thousands of messages at once: client by client, each of which takes all of its frames in
        # one call. A message that any of them wants was heard.
        messages = list(messages)
        heard = bytearray(len(messages))
        for client in clients:
            wants, frame, frames = client.session.wants, client.session.frame, list[bytes]()
            for number, message in enumerate(messages):
                if wants(message):
                    heard[number] = True
                    frames.append(frame(message))
            client.offer(frames)
        for message in messages:
            self._post(message)
        return [message for message, was_heard in zip(messages, heard, strict=True) if not was_heard]

    def _deliver_disturbed(self, message: Message, clients: list[Receiver]) -> bool:
        """Offer one message; tell whether anybody is subscribed to it."""
        wanting = [client for client in clients if client.session.wants(message)]
        if not wanting:
            self._post(message)
            return False
        if self.board.silent(message.event.listing.symbol if message.event is not None else ""):
            self.truth.dropped(self.name, message, "silence")
            return True
        frames = [(client, client.session.frame(message)) for client in wanting]
        # The first fault that concerns the message and can happen to it: one message is held back at a time. The one
        # that the held one waits for is left alone, or the two could not change places.
        can_hold = self._held is None
        armed = next(
            (e for e in self.armed if e.left and (can_hold or e.name != "reorder") and e.concerns(message)), None
        )
        name = armed.name if armed is not None and not self._awaits(message) else ""
        if name == "drop":
            self.truth.dropped(self.name, message, "drop")
        elif name == "reorder" and armed is not None:
            # Until the next message of its stream went out, but not for ever.
            held = self._held = _Held(message, frames, armed)
            asyncio.get_running_loop().call_later(_HELD_S, lambda: self._let_go() if self._held is held else None)
        else:
            self._send(message, frames, name)
        if armed is not None and name in {"drop", "duplicate", "malformed"}:
            armed.count()
        return True

    def _send(self, message: Message, frames: list[tuple[Receiver, bytes]], fault: str) -> None:
        for client, frame in frames:
            client.offer((frame,))
            if fault == "duplicate":
                client.offer((frame,))
            elif fault == "malformed":
                client.offer((frame[: len(frame) * 2 // 3],))
        # This may be what the held message waits for: it then follows, and the two have changed places.
        self._post(message)
        if self._awaits(message) and self._held is not None:
            self._held.armed.count()
            self._let_go()

    def _let_go(self) -> None:
        held, self._held = self._held, None
        if held is not None:
            for client, frame in held.frames:
                client.offer((frame,))
            self._post(held.message)

    def _awaits(self, message: Message) -> bool:
        """Whether the message that is held back waits for this one."""
        return self._held is not None and self._held.message.streams == message.streams

    def _post(self, message: Message) -> None:
        if message.event is not None:
            self.board.post(message.event)

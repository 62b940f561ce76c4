"""The faults that a venue can be made to have: their names, how they are asked for, scripts and chance. Pure."""

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from k2_core.errors import SettingsError
from k2_feeds.simulator.simulated_listings import VENUES


class Kind(NamedTuple):
    """One fault: what it does, in a sentence, and how many seconds it means if the request gives none."""

    meaning: str
    seconds: float | None = None
    for_s: float | None = None


KINDS: Final = {
    "drop": Kind("COUNT messages are lost"),
    "duplicate": Kind("COUNT messages are sent twice"),
    "reorder": Kind("COUNT messages change places with the next one of their symbol"),
    "malformed": Kind("COUNT broken frames are sent among the good ones"),
    "disconnect": Kind("connections end in the middle of a frame"),
    "silence": Kind("nothing is sent for SECONDS, though subscriptions are accepted and pings answered", 10.0),
    "slow": Kind("after SECONDS without being sent anything, clients are cut off as too slow", 2.0),
    "skew": Kind("the venue's clock is wrong by SECONDS, for a while", 5.0, 10.0),
    "stale": Kind("what is sent happened SECONDS ago, for a while", 60.0, 10.0),
    "http_429": Kind("REST and handshakes are answered by 429 for SECONDS", 10.0),
    "cut": Kind("connections are closed, as at the end of their day"),
    "shutdown": Kind("serverShutdown is announced; SECONDS later connections are closed (Binance only)", 5.0),
}
OF_MESSAGES: Final = frozenset({"drop", "duplicate", "reorder", "malformed"})
CHANNELS: Final = ("trades", "quotes")
_FIELDS: Final = frozenset({"fault", "venue", "count", "seconds", "for_s", "symbol", "channel"})
_PAUSE_S: Final = (1.5, 4.5)  # between two random faults
_MOST: Final = 5  # messages of a random fault


class Fault(NamedTuple):
    """One fault to be had. ``symbol`` None: of any symbol; ``channel`` None: of trades and quotes."""

    name: str
    venue: str
    times: int = 1
    seconds: float = 0.0
    for_s: float = 0.0
    symbol: str | None = None
    channel: str | None = None


class Due(NamedTuple):
    """A fault of a script, in seconds since somebody first subscribed."""

    at_s: float
    fault: Fault


def fault_of(asked: dict[str, Any]) -> Fault:
    """Return the fault that ``{"fault":"drop","venue":"kraken","count":3,"symbol":"BTC/USD"}`` asks for.

    Raises:
        SettingsError: says what is wrong with it.
    """
    name, venue = asked.get("fault"), asked.get("venue")
    if not isinstance(name, str) or name not in KINDS:
        msg = f"{name!r} is not a fault: choose one of {', '.join(KINDS)}."
        raise SettingsError(msg)
    if venue not in VENUES or (name == "shutdown" and venue != "binance"):
        able = "binance" if name == "shutdown" else ", ".join(VENUES)
        msg = f"{venue!r} cannot have the fault {name}: choose one of {able}."
        raise SettingsError(msg)
    if unknown := asked.keys() - _FIELDS:
        msg = f"{', '.join(sorted(unknown))} cannot be said of a fault: choose of {', '.join(sorted(_FIELDS))}."
        raise SettingsError(msg)
    count, symbol = asked.get("count", 1), asked.get("symbol")
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        msg = f"count is {count!r}: say a whole number above 0."
        raise SettingsError(msg)
    if symbol is not None and not isinstance(symbol, str):
        msg = f"symbol is {symbol!r}: say a symbol in the venue's spelling."
        raise SettingsError(msg)
    channel = asked.get("channel")
    if channel is not None and channel not in CHANNELS:
        msg = f"channel is {channel!r}: say {' or '.join(CHANNELS)}, or leave it out for both."
        raise SettingsError(msg)
    if channel is not None and name not in OF_MESSAGES:
        msg = f"{name} is not a fault of messages: leave the channel out."
        raise SettingsError(msg)
    kind = KINDS[name]
    seconds, for_s = _number(asked, "seconds", kind.seconds), _number(asked, "for_s", kind.for_s)
    return Fault(name, venue, count, seconds, for_s, symbol, channel)


def json_object(text: str | bytes) -> dict[str, Any]:
    """Return the JSON object of a text.

    Raises:
        SettingsError: it is none.
    """
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        msg = "a fault is asked for by a JSON object."
        raise SettingsError(msg)
    return found


def script(path: Path) -> list[Due]:
    """Read a script: a fault a line, with ``at_s``; returned by time.

    Raises:
        SettingsError: the file cannot be read; names file and line.
    """
    due = []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        msg = f"{path} cannot be read as a script of faults: {error}."
        raise SettingsError(msg) from None
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            asked = json_object(line)
            due.append(Due(_number({"at_s": asked.pop("at_s", None)}, "at_s", None), fault_of(asked)))
        except SettingsError as error:
            msg = f"{path}:{number}: {error}"
            raise SettingsError(msg) from None
    return sorted(due, key=lambda each: each.at_s)


def at_random(seed: int, venues: tuple[str, ...]) -> Iterator[Due]:
    """Yield faults for ever: each kind once before any comes again, and at another venue each time."""
    chance = random.Random(seed)  # noqa: S311  # no secret
    at_s, turns = 0.0, {name: chance.randrange(len(VENUES)) for name in sorted(KINDS)}
    # Every round has all kinds in another order. Each kind goes round the venues from one that was drawn for it: after
    # as many rounds as there are venues, every venue has had every fault.
    while True:
        for name in chance.sample(sorted(KINDS), len(KINDS)):
            able = [venue for venue in venues if name != "shutdown" or venue == "binance"]
            if not able:
                continue
            at_s += chance.uniform(*_PAUSE_S)
            turns[name] += 1
            kind, venue, count = KINDS[name], able[turns[name] % len(able)], chance.randint(1, _MOST)
            yield Due(at_s, Fault(name, venue, count, kind.seconds or 0.0, kind.for_s or 0.0))
            if name == "http_429":  # nobody would notice while all are connected
                yield Due(at_s, Fault("disconnect", venue))


def _number(asked: dict[str, Any], name: str, otherwise: float | None) -> float:
    value = asked.get(name)
    if value is None:
        value = otherwise or 0.0
    if isinstance(value, bool) or not isinstance(value, int | float) or not -86_400 <= value <= 86_400:  # noqa: PLR2004
        msg = f"{name} is {value!r}: say seconds, at most a day."
        raise SettingsError(msg)
    return float(value)

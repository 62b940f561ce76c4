"""Have a venue suffer a fault, from its beginning to its end. Knows no sockets; waits by the loop's clock."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from k2_core import clock
from k2_feeds.simulator.binance import BinanceSession
from k2_feeds.simulator.faults import OF_MESSAGES, Fault
from k2_feeds.simulator.venue import Armed, Venue

GOING_AWAY: Final = 1001
_WITHIN_S: Final = 60.0  # a fault of messages ends although too few came
_US: Final = 1_000_000


async def inject(venue: Venue, fault: Fault) -> int:
    """Have the fault, wait for its end, and return to how many messages or clients it happened."""
    details = {"count": fault.times} if fault.name in OF_MESSAGES else {"seconds": fault.seconds}
    chosen = {"symbol": fault.symbol, "channel": fault.channel}
    only = {name: value for name, value in chosen.items() if value is not None}
    venue.truth.fault(venue.name, fault.name, **details, **only)
    carry_out = _of_messages if fault.name in OF_MESSAGES else _INJECTIONS[fault.name]
    try:
        happened = await carry_out(venue, fault)
    finally:
        venue.truth.fault(venue.name, f"{fault.name}_over", **only)
    return happened


async def _of_messages(venue: Venue, fault: Fault) -> int:
    armed = Armed(fault.name, fault.times, fault.symbol, fault.channel)
    venue.armed.append(armed)
    try:
        async with asyncio.timeout(_WITHIN_S):
            await armed.over.wait()
    except TimeoutError:
        pass
    finally:
        venue.armed.remove(armed)
    return armed.done


async def _disconnect(venue: Venue, _fault: Fault) -> int:
    clients = list(venue.clients)
    for client in clients:
        client.break_mid_frame()
    return len(clients)


async def _cut(venue: Venue, _fault: Fault) -> int:
    clients = list(venue.clients)
    for client in clients:
        client.close(GOING_AWAY, "connections live that long at most")
    return len(clients)


async def _shutdown(venue: Venue, fault: Fault) -> int:
    """Announce the end to those who are connected now, and end what is left of them later."""
    clients = list(venue.clients)
    for client in clients:
        if isinstance(client.session, BinanceSession):
            client.offer((client.session.shutdown(clock.now_us() + venue.skew_us),))
    await asyncio.sleep(fault.seconds)
    for client in clients:
        client.close(GOING_AWAY, "the server is shut down")
    return len(clients)


async def _slow(venue: Venue, fault: Fault) -> int:
    clients = venue.subscribers()
    for client in clients:
        client.stall(fault.seconds)
    await asyncio.sleep(fault.seconds)
    return len(clients)


async def _silence(venue: Venue, fault: Fault) -> int:
    venue.board.silences.append(fault.symbol)
    try:
        await asyncio.sleep(fault.seconds)
    finally:
        venue.board.silences.remove(fault.symbol)
    return len(venue.clients)


async def _skew(venue: Venue, fault: Fault) -> int:
    shift_us = _whole_ms(fault.seconds)
    venue.skew_us += shift_us
    try:
        await asyncio.sleep(fault.for_s)
    finally:
        venue.skew_us -= shift_us
    return len(venue.clients)


async def _stale(venue: Venue, fault: Fault) -> int:
    shift_us = _whole_ms(fault.seconds)
    venue.stale_us += shift_us
    try:
        await asyncio.sleep(fault.for_s)
    finally:
        venue.stale_us -= shift_us
    return len(venue.clients)


async def _limit(venue: Venue, fault: Fault) -> int:
    venue.limited_until = max(venue.limited_until, clock.monotonic() + fault.seconds)
    await asyncio.sleep(fault.seconds)
    return len(venue.clients)


def _whole_ms(seconds: float) -> int:
    return round(seconds * 1000) * (_US // 1000)


_INJECTIONS: Final[dict[str, Callable[[Venue, Fault], Awaitable[int]]]] = {
    "disconnect": _disconnect,
    "cut": _cut,
    "shutdown": _shutdown,
    "slow": _slow,
    "silence": _silence,
    "skew": _skew,
    "stale": _stale,
    "http_429": _limit,
}

"""Run the simulator as a process."""

import asyncio
import signal
from collections.abc import Iterable
from pathlib import Path

from k2_core import clock
from k2_core.errors import SettingsError
from k2_core.logs import logger
from k2_core.settings import Settings
from k2_feeds.simulator.audience import Audience, fed_streams
from k2_feeds.simulator.faults import Due, at_random, script
from k2_feeds.simulator.frame_sources import MarketSource, Player, Source
from k2_feeds.simulator.recording import recording_of, survey
from k2_feeds.simulator.server import Hub, serve_venue
from k2_feeds.simulator.simulated_listings import VENUES, default_symbols
from k2_feeds.simulator.truth_log import Truth

_log = logger(__name__)


def market_source(settings: Settings, seed: int | None, rate: float | None) -> Source:
    """Return the random market of the settings, or with another seed or rate.

    Raises:
        SettingsError: it would trade nothing.
    """
    simulator, symbols = settings.simulator, default_symbols(settings)
    if not symbols:
        msg = f"K2_FEEDS__VENUES names none that the simulator speaks for: it can be {', '.join(VENUES)}."
        raise SettingsError(msg)
    return MarketSource(
        simulator.seed if seed is None else seed,
        symbols,
        rate or simulator.trades_per_second,
        simulator.quotes_per_trade,
    )


def recording_source(settings: Settings, files: list[str], speed: float | None) -> Source:
    """Return a player of recordings; ``speed`` None means as fast as subscribers take them.

    It waits for the feeds of the files' venues, for the kinds of data that the settings feed.

    Raises:
        RecordingError: a file cannot be played; names file and line.
    """
    recordings = [recording_of(file) for file in files]
    contents = survey(recordings, lambda frames: _log.info("reading the recording", frames=frames))
    fed = fed_streams(contents.symbols, settings.feeds)
    return Player(recordings, contents, speed, Audience(fed, wait_for_all=settings.simulator.wait_for_all))


def planned_faults(argument: str | None, seed: int, source: Source) -> Iterable[Due]:
    """Return the faults of a script, or of chance when ``argument`` is ``random``.

    Raises:
        SettingsError: the script cannot be read; names file and line.
    """
    if argument is None:
        return ()
    if argument == "random":
        traded = {listing.venue for listing in source.listings}
        return at_random(seed, tuple(venue for venue in VENUES if venue in traded))
    return script(Path(argument))


async def simulate(
    source: Source, port: int, cut_after_s: float, truth: Path | None = None, faults: Iterable[Due] = ()
) -> None:
    """Serve ``source`` on ``port`` until SIGTERM or SIGINT, with the faults, and write the truth into a folder.

    Raises:
        PartError: the port is taken.
        SettingsError: the folder of the truth cannot be written.
        RecordingError: a recording changed while it was played.
    """
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    try:
        hub = Hub(cut_after_s, source.listings, Truth(truth))
    except OSError as error:
        msg = f"--truth {truth} cannot be written: {error.strerror}."
        raise SettingsError(msg) from None
    try:
        async with await serve_venue(hub, port, source.status):
            _log.info("the simulator serves", url=f"ws://127.0.0.1:{port}", **source.status())
            playing = asyncio.create_task(source.run(hub))
            others = [asyncio.create_task(each) for each in (hub.beat(), _suffer(hub, faults))]
            stopping = asyncio.create_task(stop.wait())
            await asyncio.wait({playing, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if playing.done():  # a recording at its end, whose connections stay open; or an error, raised here
                playing.result()
                await stopping
            for task in (playing, stopping, *others):
                task.cancel()
    finally:
        hub.truth.close()


async def _suffer(hub: Hub, faults: Iterable[Due]) -> None:
    """Have the faults when they are due, counted from the first subscription."""
    await hub.subscribed()
    began = clock.monotonic()
    for due in faults:
        await asyncio.sleep(max(0.0, due.at_s - (clock.monotonic() - began)))
        _log.info("a fault", name=due.fault.name, venue=due.fault.venue)
        hub.inject(due.fault)

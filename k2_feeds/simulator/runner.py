"""Run the simulator as a process."""

import asyncio
import signal
from pathlib import Path

from k2_core.logs import logger
from k2_core.settings import Settings
from k2_feeds.simulator.recording import recording_path, survey
from k2_feeds.simulator.server import Hub, serve_venue
from k2_feeds.simulator.sources import MarketSource, Player, Source

_log = logger(__name__)


def market_source(settings: Settings, seed: int | None, rate: float | None) -> Source:
    """Return the random market of the settings, or with another seed or rate."""
    simulator = settings.simulator
    return MarketSource(
        simulator.seed if seed is None else seed, simulator.symbols, rate or simulator.trades_per_second
    )


def recording_source(files: list[str], speed: float | None) -> Source:
    """Return a player of recordings; ``speed`` None means as fast as subscribers take them.

    Raises:
        RecordingError: a file cannot be played; names file and line.
    """
    paths: list[Path] = [recording_path(file) for file in files]
    contents = survey(paths, lambda frames: _log.info("reading the recording", frames=frames))
    return Player(paths, contents, speed)


async def simulate(source: Source, port: int, cut_after_s: float) -> None:
    """Serve ``source`` on ``port`` until SIGTERM or SIGINT.

    Raises:
        PartError: the port is taken.
        RecordingError: a recording changed while it was played.
    """
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    hub = Hub(cut_after_s)
    async with await serve_venue(hub, port, source.status):
        _log.info("the simulator serves", url=f"ws://127.0.0.1:{port}", **source.status())
        playing = asyncio.create_task(source.run(hub))
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait({playing, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if playing.done():
            playing.result()
            await stopping
        playing.cancel()
        stopping.cancel()

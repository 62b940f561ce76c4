import asyncio
import gzip
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from k2_core.errors import RecordingError
from k2_core.settings import Feeds, child_environment
from k2_core.venues import binance
from k2_feeds.feed_commands import feed
from k2_feeds.recorder import Recorder
from k2_feeds.simulator.frame_sources import MarketSource, Player
from k2_feeds.simulator.recording import read, recording_of, survey
from k2_feeds.socket.connection import Connection
from tests.feeds.feed_fixtures import a_trade_frame, simulating

COMMAND = (sys.executable, "-c", "from k2_feeds.feed_commands import feed; feed()")
WITHIN_S = 240


async def test_a_recording_holds_what_was_played_and_can_be_played_again(tmp_path: Path) -> None:
    frames = [a_trade_frame(n) for n in range(5_000)]
    first, second = tmp_path / "binance_first.jsonl", tmp_path / "binance_second.jsonl.gz"
    first.write_bytes(b"".join(b"%d %b\n" % line for line in enumerate(frames)))
    recorder = Recorder(second)

    async with simulating(Player([recording_of(first)], survey([recording_of(first)]), None)) as url:
        connection = Connection(binance, url, ("BTCUSDT",), Feeds(), recorder)
        running = asyncio.create_task(connection.run())
        async with asyncio.timeout(WITHIN_S):
            while recorder.frames < 5_001:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        connection.stop()
        await running
    assert not second.exists()
    recorder.finish()

    reply, *recorded = [line.frame for line in read(recording_of(second))]
    assert reply == b'{"result":null,"id":1}'
    assert recorded == frames
    assert survey([recording_of(second)]).symbols == {"binance": ("BTCUSDT",)}
    assert not second.with_name(f"{second.name}.part").exists()


async def test_record_completes_its_file_when_it_is_interrupted(tmp_path: Path) -> None:
    file = tmp_path / "binance_made.jsonl.gz"
    async with simulating(MarketSource(1, ("BTCUSDT",), 500)) as url:
        variables = child_environment(K2_FEEDS__BINANCE__URL=url, K2_HOME=str(tmp_path))
        process = await asyncio.create_subprocess_exec(
            *COMMAND, "record", "binance", str(file), env=variables, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        async with asyncio.timeout(WITHIN_S):
            while not file.with_name(f"{file.name}.part").exists():  # noqa: ASYNC110
                await asyncio.sleep(0.05)
            await asyncio.sleep(1)
            process.send_signal(2)
            said, _ = await process.communicate()

    assert process.returncode == 0
    lines = list(read(recording_of(file)))
    assert said.decode().startswith(f"{file}: {len(lines):,} frames")
    assert gzip.decompress(file.read_bytes()).endswith(b"\n")


@pytest.mark.parametrize("url", ["ws://127.0.0.1:1", "ws://one@127.0.0.1:1"])
def test_record_makes_no_file_and_fails_when_no_frame_came(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, url: str
) -> None:
    monkeypatch.setenv("K2_FEEDS__BINANCE__URL", url)

    done = CliRunner().invoke(feed, ["record", "binance", str(tmp_path / "binance_made"), "--for", "0.2"])

    assert (done.exit_code, isinstance(done.exception, SystemExit)) == (1, True)
    assert f"k2: {'not one frame came from ' if url.endswith('//127.0.0.1:1') else ''}{url}" in done.output
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_what_could_not_be_written_wholly_is_said_and_never_gets_its_name(tmp_path: Path) -> None:
    file = tmp_path / "binance_made"
    recorder = Recorder(file)
    recorder._file.close()
    recorder._file = Path("/dev/full").open("wb", buffering=0)  # noqa: SIM115  # the recorder closes it

    with pytest.raises(RecordingError, match=r"binance_made cannot be written further \(No space left on device\)"):
        recorder.take(1, a_trade_frame(1))
    with pytest.raises(RecordingError, match=r"is in binance_made\.part"):
        recorder.finish()
    assert list(tmp_path.iterdir()) == [tmp_path / "binance_made.part"]


def test_record_refuses_to_overwrite(tmp_path: Path) -> None:
    file = tmp_path / "binance_made.jsonl"
    file.write_text("1 x\n")

    with pytest.raises(RecordingError, match="exists already"):
        Recorder(file)
    assert file.read_text() == "1 x\n"


def test_a_frame_with_a_line_feed_is_counted_and_left_out(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "binance_made")
    recorder.take(1, b"{\n}")
    recorder.take(2, b"{}")
    recorder.finish()

    assert recorder.unrecordable == 1
    assert (tmp_path / "binance_made").read_bytes() == b"2 {}\n"

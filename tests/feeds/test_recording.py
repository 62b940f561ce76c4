import gzip
import re
from pathlib import Path

import pytest

from k2_core.errors import RecordingError
from k2_feeds.simulator.recording import REPLY, merged, read, recording_path, stream_of, survey
from tests.feeds.rooms import a_trade_frame


def a_recording(path: Path, *lines: tuple[int, bytes]) -> Path:
    path.write_bytes(b"".join(b"%d %b\n" % line for line in lines))
    return path


def test_read_gives_frames_byte_for_byte_when_plain_or_gzip(tmp_path: Path) -> None:
    odd = b'{"stream":"btcusdt@trade", "data" : 1}  \xff\r'
    plain = a_recording(tmp_path / "binance_a.jsonl", (5, odd), (4, a_trade_frame(1)))
    zipped = tmp_path / "binance_b.jsonl.gz"
    zipped.write_bytes(gzip.compress(plain.read_bytes()))

    assert [line.frame for line in read(plain)] == [odd, a_trade_frame(1)]
    assert list(read(zipped)) == list(read(plain))


def test_survey_finds_symbols_in_the_file_itself(tmp_path: Path) -> None:
    one = a_recording(tmp_path / "binance_a", (1, a_trade_frame(1, "PEPEUSDT")), (2, b"poison"))
    two = a_recording(tmp_path / "binance_b", (3, b'{"u":1,"s":"WIFUSDC","b":"1","B":"1","a":"1","A":"1"}'))

    contents = survey([one, two])

    assert (contents.frames, contents.symbols) == (3, ("PEPEUSDT", "WIFUSDC"))


def test_merged_goes_by_time_over_several_files(tmp_path: Path) -> None:
    one = a_recording(tmp_path / "binance_a", (1, b"a"), (5, b"c"))
    two = a_recording(tmp_path / "binance_b", (3, b"b"), (9, b"d"))

    assert [line.frame for line in merged([one, two])] == [b"a", b"b", b"c", b"d"]


@pytest.mark.parametrize(
    ("frame", "stream"),
    [
        (a_trade_frame(1), "btcusdt@trade"),
        (b'{"e":"trade","s":"ETHUSDT","t":1}', "ethusdt@trade"),
        (b'{"u":1,"s":"ETHUSDT","b":"1","B":"1","a":"1","A":"1"}', "ethusdt@bookTicker"),
        (b'{"data":{},"stream":"a@b"}', "a@b"),
        (b'{"stream":"btcusdt@trade","data":{"e":"tr', "btcusdt@trade"),
        (b'{"result":null,"id":1}', REPLY),
        (b'{"error":{"code":2,"msg":"x"}}', REPLY),
        (b'{"e":"serverShutdown","E":1}', None),
        (b"\xff\xfe", None),
        (b"[1]", None),
        (b"[" * 100_000, None),
    ],
)
def test_stream_of_attributes_a_frame_when_it_can(frame: bytes, stream: str | None) -> None:
    assert stream_of(frame) == stream


@pytest.mark.parametrize("bad", [b"no time\n", b"123\n", b"-1 x\n", b"\n"])
def test_a_bad_line_is_named_by_file_and_line(tmp_path: Path, bad: bytes) -> None:
    path = tmp_path / "binance_bad"
    path.write_bytes(b"1 fine\n" + bad)

    with pytest.raises(RecordingError, match=re.escape(f"{path}:2: expected")):
        survey([path])


def test_a_cut_off_gzip_is_named_by_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "binance_cut.gz"
    whole = gzip.compress(b"".join(b"%d %b\n" % (n, a_trade_frame(n * 7919)) for n in range(1000)))
    path.write_bytes(whole[: len(whole) // 2])

    with pytest.raises(RecordingError, match=rf"{re.escape(str(path))}:\d+: .*cut off"):
        survey([path])


def test_an_empty_recording_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="no frame"):
        survey([a_recording(tmp_path / "binance_empty")])


def test_the_venue_is_the_first_word_of_the_name_or_given(tmp_path: Path) -> None:
    named, other = a_recording(tmp_path / "binance_x"), a_recording(tmp_path / "capture")

    assert recording_path(str(named)) == named
    assert recording_path(f"binance={other}") == other
    with pytest.raises(RecordingError, match="binance="):
        recording_path(str(other))
    with pytest.raises(RecordingError, match="not a file"):
        recording_path(str(tmp_path / "binance_missing"))

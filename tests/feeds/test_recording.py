import gzip
import re
from pathlib import Path

import pytest

from k2_core.errors import RecordingError
from k2_feeds.simulator.attribution import OF_VENUE, REPLY
from k2_feeds.simulator.recording import merged, read, recording_of, survey
from tests.feeds.feed_fixtures import a_trade_frame

A_KRAKEN_TRADE = b'{"channel":"trade","type":"update","data":[{"symbol":"BTC/USD","side":"buy","price":1.0}]}'
A_COINBASE_TRADE = b'{"channel":"market_trades","sequence_num":5,"events":[{"trades":[{"product_id":"BTC-USD"}]}]}'


def a_recording(path: Path, *lines: tuple[int, bytes]) -> Path:
    path.write_bytes(b"".join(b"%d %b\n" % line for line in lines))
    return path


def test_read_gives_frames_byte_for_byte_when_plain_or_gzip(tmp_path: Path) -> None:
    odd = b'{"stream":"btcusdt@trade", "data" : 1}  \xff\r'
    plain = a_recording(tmp_path / "binance_a.jsonl", (5, odd), (4, a_trade_frame(1)))
    zipped = tmp_path / "binance_b.jsonl.gz"
    zipped.write_bytes(gzip.compress(plain.read_bytes()))

    assert [line.frame for line in read(recording_of(plain))] == [odd, a_trade_frame(1)]
    assert list(read(recording_of(zipped))) == list(read(recording_of(plain)))


def test_survey_finds_each_venues_symbols_in_the_files_themselves(tmp_path: Path) -> None:
    files = [
        a_recording(tmp_path / "binance_a", (1, a_trade_frame(1, "PEPEUSDT")), (2, b"poison")),
        a_recording(tmp_path / "binance_b", (3, b'{"u":1,"s":"WIFUSDC","b":"1","B":"1","a":"1","A":"1"}')),
        a_recording(tmp_path / "kraken_c", (4, b'{"channel":"heartbeat"}'), (5, A_KRAKEN_TRADE)),
        a_recording(tmp_path / "coinbase_d", (6, A_COINBASE_TRADE)),
    ]

    contents = survey([recording_of(file) for file in files])

    assert contents.frames == 6
    assert contents.symbols == {
        "binance": ("PEPEUSDT", "WIFUSDC"),
        "kraken": ("BTC/USD",),
        "coinbase": ("BTC-USD",),
    }


def test_merged_goes_by_time_over_several_files_and_venues(tmp_path: Path) -> None:
    one = a_recording(tmp_path / "binance_a", (1, b"a"), (5, b"c"))
    two = a_recording(tmp_path / "kraken_b", (3, b"b"), (9, b"d"))

    lines = list(merged([recording_of(one), recording_of(two)]))

    assert [(line.venue, line.frame) for line in lines] == [
        ("binance", b"a"),
        ("kraken", b"b"),
        ("binance", b"c"),
        ("kraken", b"d"),
    ]


@pytest.mark.parametrize(
    ("frame", "streams"),
    [
        (a_trade_frame(1), ("btcusdt@trade",)),
        (b'{"e":"trade","s":"ETHUSDT","t":1}', ("ethusdt@trade",)),
        (b'{"u":1,"s":"ETHUSDT","b":"1","B":"1","a":"1","A":"1"}', ("ethusdt@bookTicker",)),
        (b'{"data":{},"stream":"a@b"}', ("a@b",)),
        (b'{"stream":"btcusdt@trade","data":{"e":"tr', ("btcusdt@trade",)),
        (b'{"stream":"btcusdt@depth20@100ms","data":{}}', ("btcusdt@depth20@100ms",)),
        (b'{"result":null,"id":1}', REPLY),
        (b'{"error":{"code":2,"msg":"x"}}', REPLY),
        (b'{"e":"serverShutdown","E":1}', None),
        (b"\xff\xfe", None),
        (b"[1]", None),
        (b"[" * 100_000, None),
    ],
)
def test_frames_of_binance_are_attributed_when_they_can_be(frame: bytes, streams: tuple[str, ...] | None) -> None:
    assert OF_VENUE["binance"](frame) == streams


@pytest.mark.parametrize(
    ("frame", "streams"),
    [
        (A_KRAKEN_TRADE, ("trade:BTC/USD",)),
        (b'{"channel":"ticker","data":[{"symbol":"A/B"},{"symbol":"C/D"}]}', ("ticker:A/B", "ticker:C/D")),
        (b'{"channel":"book","type":"snapshot","data":[{"symbol":"A/B","bids":[]}]}', ("book:A/B",)),
        (b'{ "type" : "update", "data":[{"symbol":"A/B"}], "channel" : "trade" }', ("trade:A/B",)),
        (b'{"channel":"trade","type":"update","data":[{"symbol":"A/B","si', ("trade:A/B",)),
        (b'{"channel":"heartbeat"}', REPLY),
        (b'{"channel":"status","type":"update","data":[]}', REPLY),
        (b'{"method":"subscribe","result":{"channel":"trade","symbol":"BTC/USD"},"success":true}', REPLY),
        (b'{"method":"pong","req_id":1}', REPLY),
        (b'{"error":"Currency pair not supported X/Y","method":"subscribe","success":false}', REPLY),
        (b"\xff\xfe", None),
        (b"{}", None),
    ],
)
def test_frames_of_kraken_are_attributed_when_they_can_be(frame: bytes, streams: tuple[str, ...] | None) -> None:
    assert OF_VENUE["kraken"](frame) == streams


@pytest.mark.parametrize(
    ("frame", "streams"),
    [
        (A_COINBASE_TRADE, ("market_trades:BTC-USD",)),
        (b'{"channel":"ticker","events":[{"tickers":[{"product_id":"A-B"}]}]}', ("ticker:A-B",)),
        (b'{"channel":"l2_data","events":[{"product_id":"A-B","updates":[]}]}', ("level2:A-B",)),
        (b'{"channel":"heartbeats","sequence_num":3,"events":[{"heartbeat_counter":1}]}', ("heartbeats",)),
        (b'{"channel":"subscriptions","events":[]}', REPLY),
        (b'{"type":"error","message":"x"}', REPLY),
        (b"\xff\xfe", None),
    ],
)
def test_frames_of_coinbase_are_attributed_when_they_can_be(frame: bytes, streams: tuple[str, ...] | None) -> None:
    assert OF_VENUE["coinbase"](frame) == streams


@pytest.mark.parametrize("bad", [b"no time\n", b"123\n", b"-1 x\n", b"\n"])
def test_a_bad_line_is_named_by_file_and_line(tmp_path: Path, bad: bytes) -> None:
    path = tmp_path / "binance_bad"
    path.write_bytes(b"1 fine\n" + bad)

    with pytest.raises(RecordingError, match=re.escape(f"{path}:2: expected")):
        survey([recording_of(path)])


def test_a_cut_off_gzip_is_named_by_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "binance_cut.gz"
    whole = gzip.compress(b"".join(b"%d %b\n" % (n, a_trade_frame(n * 7919)) for n in range(1000)))
    path.write_bytes(whole[: len(whole) // 2])

    with pytest.raises(RecordingError, match=rf"{re.escape(str(path))}:\d+: .*cut off"):
        survey([recording_of(path)])


def test_an_empty_recording_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="no frame"):
        survey([recording_of(a_recording(tmp_path / "binance_empty"))])


def test_the_venue_is_the_first_word_of_the_name_or_given(tmp_path: Path) -> None:
    named, other = a_recording(tmp_path / "kraken_x"), a_recording(tmp_path / "capture")

    assert recording_of(str(named)) == ("kraken", named)
    assert recording_of(f"coinbase={other}") == ("coinbase", other)
    with pytest.raises(RecordingError, match="binance="):
        recording_of(str(other))
    with pytest.raises(RecordingError, match="not a file"):
        recording_of(str(tmp_path / "binance_missing"))

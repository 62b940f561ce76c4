import csv
import io
import json
from typing import Any

import pytest
from click.testing import CliRunner, Result

from k2_api.query_cli import main
from k2_api.shell import printing
from k2_api.timestamps import parse_moment
from k2_core.lake.tables import silver_rejected
from tests.api.lakes import Lake, Row

REJECTED = silver_rejected("binance")


def a_reject(offset: int, at: str = "2024-08-08T23:55:00Z", **other: Any) -> Row:
    return {
        "kafka_topic": "market.crypto.trades.binance.raw",
        "topic_id": "topic-uuid",
        "kafka_partition": 0,
        "kafka_offset": offset,
        "frame_index": 0,
        "received_ns": 1,
        "ingestion_timestamp": parse_moment(at),
        "reason": "malformed_json",
        "error": "cut off",
        "payload": b'{"stream":',
    } | other


def ask(lake: Lake, *options: str) -> Result:
    return CliRunner(env={"K2_HOME": str(lake.home)}).invoke(main, ["rejected", *options])


def answer(lake: Lake, *options: str) -> list[Row]:
    result = ask(lake, "-o", "json", *options)
    assert result.exit_code == 0, result.output
    found: list[Row] = json.loads(result.stdout)
    return found


def offsets(rows: list[Row]) -> list[int]:
    return [row["kafka_offset"] for row in rows]


def test_the_newest_rows_come_first_when_there_are_more_than_the_limit(lake: Lake) -> None:
    for first in (40, 0, 20):  # three commits, in no order of time
        lake.add([a_reject(n, f"2024-08-08T23:{n:02}:00Z") for n in range(first, first + 20)], REJECTED)

    assert offsets(answer(lake)) == list(range(59, 39, -1))
    assert offsets(answer(lake, "-n", "3")) == [59, 58, 57]
    assert offsets(answer(lake, "--limit", "1000")) == list(range(59, -1, -1))


def test_rows_are_those_of_the_time_and_the_reasons_asked_for(lake: Lake) -> None:
    reasons = ("malformed_json", "missing_field", "unknown_symbol")
    lake.add([a_reject(n, f"2024-08-08T23:00:{n:02}Z", reason=reasons[n % 3]) for n in range(12)], REJECTED)

    within = ("--start", "2024-08-08T23:00:03Z", "--end", "2024-08-09T01:00:09+02:00")
    assert offsets(answer(lake, *within)) == [8, 7, 6, 5, 4, 3]
    assert offsets(answer(lake, *within, "--reason", "missing_field")) == [7, 4]
    assert offsets(answer(lake, "--reason", "missing_field", "--reason", "unknown_symbol", "-n", "2")) == [11, 10]
    assert answer(lake, "--start", "2024-08-10") == []
    assert offsets(answer(lake, "-e", "binance", "-n", "1")) == [11]


def test_a_row_says_where_it_came_from_and_shows_its_bytes(lake: Lake) -> None:
    text = '{"s":"币安人生USDT","p":"-1"}'
    lake.add([a_reject(7, payload=text.encode(), kafka_partition=3), a_reject(6, payload=b"\xff\x00A")], REJECTED)

    readable, other = answer(lake)

    assert readable == {
        "ingestion_timestamp": "2024-08-08T23:55:00.000000Z",
        "exchange": "binance",
        "reason": "malformed_json",
        "error": "cut off",
        "kafka_topic": "market.crypto.trades.binance.raw",
        "kafka_partition": 3,
        "kafka_offset": 7,
        "frame_index": 0,
        "payload": text,
        "payload_form": "utf-8",
    }
    assert bytes.fromhex(other["payload"]) == b"\xff\x00A"
    assert other["payload_form"] == "hex"


def test_summary_counts_each_reason_and_says_from_when_to_when(lake: Lake) -> None:
    for minute in (10, 30, 20):
        lake.add(
            [
                a_reject(minute, f"2024-08-08T23:{minute}:00Z"),
                a_reject(minute + 1, f"2024-08-08T23:{minute}:05Z"),
                a_reject(minute + 2, f"2024-08-08T23:{minute}:07Z", reason="wrong_type"),
            ],
            REJECTED,
        )

    rows = answer(lake, "--summary")

    assert [(row["exchange"], row["reason"], row["rows"]) for row in rows] == [
        ("binance", "malformed_json", 6),
        ("binance", "wrong_type", 3),
    ]
    assert (rows[0]["first"], rows[0]["last"]) == ("2024-08-08T23:10:00.000000Z", "2024-08-08T23:30:05.000000Z")
    only = answer(lake, "--summary", "--reason", "wrong_type", "--start", "2024-08-08T23:20:00Z")
    assert [(row["reason"], row["rows"]) for row in only] == [("wrong_type", 2)]


def test_nothing_rejected_gives_no_rows_in_any_form(lake: Lake) -> None:
    assert answer(lake) == []
    assert answer(lake, "--summary") == []
    assert ask(lake, "-o", "csv").stdout.splitlines() == [ask(lake).stdout.strip().replace("\t", ",")]


def test_csv_keeps_bytes_and_is_no_formula(lake: Lake) -> None:
    payloads = [b'a,"b"', b"=1+1", b"-1", b"two\nlines\x1b[2J"]
    lake.add([a_reject(n, payload=payload) for n, payload in enumerate(payloads)], REJECTED)

    rows = list(csv.DictReader(io.StringIO(ask(lake, "-o", "csv").stdout)))

    assert [row["payload"] for row in reversed(rows)] == ['a,"b"', "'=1+1", "'-1", r"two\nlines\x1b[2J"]
    assert [row["kafka_offset"] for row in rows] == ["3", "2", "1", "0"]


@pytest.mark.parametrize("form", printing.Form.__args__)
def test_a_payload_cannot_drive_the_terminal(lake: Lake, form: str) -> None:
    lake.add([a_reject(1, payload="\x1b[2J\x9b31m\x07\u202e\r\n\tend".encode())], REJECTED)

    shown = ask(lake, "-o", form).stdout

    assert "end" in shown
    assert not {"\x1b", "\x9b", "\x07", "\u202e", "\r"} & set(shown)


def test_a_pipe_gets_one_line_a_row(lake: Lake) -> None:
    lake.add([a_reject(n, payload=b"x" * 500 + b"\n\ty") for n in range(3)], REJECTED)

    lines = ask(lake).stdout.splitlines()

    assert lines[0].split("\t")[:3] == ["ingestion_timestamp", "exchange", "reason"]
    assert len(lines) == 4
    assert lines[1].split("\t")[-2] == "x" * 500 + r"\n\ty"


def test_a_terminal_gets_what_it_can_show(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "200")
    lake.add([a_reject(1, payload=b"[bold]x[/bold]" + b"y" * 10_000)], REJECTED)

    shown = ask(lake).stdout

    assert "2024-08-08T23:55:00.000000Z" in shown
    assert "malformed_json" in shown
    assert "[bold]x[/bold]yyy" in shown
    assert "(10,014 characters)" in shown
    assert "kafka_topic" not in shown


def test_a_home_without_a_lake_is_said_and_left_as_it_is(tmp_path: Any) -> None:
    home = tmp_path / "nowhere"

    result = CliRunner(env={"K2_HOME": str(home)}).invoke(main, ["rejected"])

    assert result.exit_code == 1
    assert result.stderr.startswith(f"k2-query: there is no lake in {home}")
    assert not home.exists()


@pytest.mark.parametrize(
    "options",
    [
        ("--reason", "because"),
        ("-e", "nasdaq"),
        ("--start", "yesterday"),
        ("--start", "2024-08-09T00:00:00Z", "--end", "2024-08-08T00:00:00Z"),
        ("-n", "0"),
        ("-o", "xml"),
        ("extra",),
    ],
)
def test_what_cannot_be_asked_is_a_usage_error(lake: Lake, options: tuple[str, ...]) -> None:
    result = ask(lake, *options)

    assert result.exit_code == 2
    assert "Usage" in result.stderr

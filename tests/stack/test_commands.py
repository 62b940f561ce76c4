from pathlib import Path

import pytest
from click.testing import CliRunner

from k2_stack.cli import main
from k2_stack.trade_sources import Source, absolute


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["up", "--source", "nowhere"], "'nowhere' is not one of"),
        (["up", "--source", "recording"], "name the recordings"),
        (["up", "some.jsonl"], "FILES need --source recording"),
        (["up", "--source", "recording", "absent.jsonl"], "there is no recording absent.jsonl"),
        (["up", "--speed", "max"], "--speed is for --source recording"),
        (["up", "--source", "recording", "--speed", "0", "x"], "neither a positive number nor max"),
        (["up", "--rate", "100"], "--rate is for --source simulator"),
        (["logs", "kitchen"], "'kitchen' is not one of"),
        (["nothing"], "No such command 'nothing'"),
    ],
)
def test_command_ends_with_2_when_it_is_used_wrongly(arguments: list[str], said: str) -> None:
    done = CliRunner().invoke(main, arguments)

    assert done.exit_code == 2
    assert said in done.stderr


def test_command_ends_with_1_when_a_setting_is_broken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("K2_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("K2_PORTS__API", "eighty")

    done = CliRunner().invoke(main, ["up", "--source", "simulator"])

    assert done.exit_code == 1
    assert done.stderr.startswith("k2: K2_PORTS__API cannot be used: ")
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "home").exists()


def test_logs_shows_the_end_when_a_part_has_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("K2_HOME", str(tmp_path))
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "feed.log").write_text("one\ntwo\nthree\n")

    assert CliRunner().invoke(main, ["logs", "feed", "-n", "2"]).output == "two\nthree\n"


def test_logs_says_so_when_a_part_has_written_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("K2_HOME", str(tmp_path))

    done = CliRunner().invoke(main, ["logs", "api"])

    assert (done.exit_code, "api has written no log yet" in done.stderr) == (1, True)


def test_recording_keeps_its_venue_when_its_path_is_made_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    assert absolute("binance=a.jsonl") == f"binance={tmp_path / 'a.jsonl'}"
    assert absolute("a.jsonl") == str(tmp_path / "a.jsonl")


def test_source_says_how_it_is_simulated_when_it_is_a_recording() -> None:
    source = Source("recording", ("/data/binance_a.jsonl",), "max")

    assert source.simulator_arguments() == ["--recording", "/data/binance_a.jsonl", "--speed", "max"]
    assert str(source) == "recording binance_a.jsonl"

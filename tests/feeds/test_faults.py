from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from k2_core.errors import SettingsError
from k2_feeds.simulator.faults import KINDS, Fault, at_random, fault_of, script

VENUES = ("binance", "coinbase", "kraken")


def test_chance_has_every_fault_within_a_minute_and_repeats_itself_by_its_seed() -> None:
    def first(seed: int) -> list[Any]:
        return [due for due, _ in zip(at_random(seed, VENUES), range(60), strict=False)]

    assert first(3) == first(3) != first(4)
    within = [due for due in first(3) if due.at_s <= 60]
    assert {due.fault.name for due in within} == KINDS.keys()
    assert all(before.at_s <= after.at_s for before, after in pairwise(within))


def test_chance_has_every_fault_at_every_venue_before_long() -> None:
    found = {(due.fault.name, due.fault.venue) for due, _ in zip(at_random(1, VENUES), range(40), strict=False)}
    possible = {(name, venue) for name in KINDS for venue in VENUES if name != "shutdown" or venue == "binance"}

    assert found == possible


def test_chance_asks_only_for_what_the_venues_can_have() -> None:
    found = [due.fault for due, _ in zip(at_random(1, ("kraken",)), range(40), strict=False)]

    assert {fault.venue for fault in found} == {"kraken"}
    assert {fault.name for fault in found} == KINDS.keys() - {"shutdown"}


def test_a_script_is_read_by_time_and_its_errors_are_named(tmp_path: Path) -> None:
    path = tmp_path / "script.jsonl"
    path.write_text(
        '{"at_s":5,"fault":"cut","venue":"kraken"}\n\n{"at_s":1.5,"fault":"drop","venue":"binance","count":3}\n'
    )

    assert [(due.at_s, due.fault) for due in script(path)] == [
        (1.5, Fault("drop", "binance", 3)),
        (5.0, Fault("cut", "kraken")),
    ]
    path.write_text('{"at_s":5,"fault":"cut","venue":"kraken"}\n{"fault":\n')
    with pytest.raises(SettingsError, match=r"script\.jsonl:2"):
        script(path)


@pytest.mark.parametrize(
    "asked",
    [
        {"fault": "drop", "venue": "nyse"},
        {"fault": "drop", "venue": ["kraken"]},
        {"fault": ["drop"], "venue": "kraken"},
        {"fault": "drop", "venue": "kraken", "count": 0},
        {"fault": "drop", "venue": "kraken", "count": True},
        {"fault": "silence", "venue": "kraken", "seconds": "ten"},
        {"fault": "silence", "venue": "kraken", "seconds": 1e9},
        {"fault": "silence", "venue": "kraken", "seconds": float("nan")},
        {"fault": "drop", "venue": "kraken", "symbol": 5},
        {"fault": "drop", "venue": "kraken", "channel": "depth"},
        {"fault": "drop", "venue": "kraken", "channel": ["trades"]},
        {"fault": "cut", "venue": "kraken", "channel": "trades"},
        {"fault": "drop", "venue": "kraken", "colour": "red"},
    ],
)
def test_a_fault_that_makes_no_sense_is_refused(asked: dict[str, Any]) -> None:
    with pytest.raises(SettingsError):
        fault_of(asked)

"""Named tags beside expiry, and a creator that is killed between two tables: what has the tag keeps its rows."""

import itertools
import json
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from pyiceberg.exceptions import CommitFailedException

from k2_assets.maintenance.named_tags import NamedTags, Tagged
from k2_assets.maintenance.table_round import TableRound
from k2_core import clock
from k2_core.errors import TagRefused
from k2_core.lake.tables import CANDLES, GOLD_OHLCV_1M, GOLD_TRADES
from k2_core.settings import Maintenance
from k2_stack.cli import main
from k2_stack.tag_commands import _as_of
from tests.assets.lakes import SmallLake, a_trade, current_id
from tests.reliability.crashes import Crashes, Kills
from tests.reliability.measured import Faults

pytestmark = pytest.mark.reliability("history")

GOLD = [GOLD_TRADES, *CANDLES]
TAGS = 8
STEP_NS = 2 * 3_600 * clock.NS_PER_SECOND
POINTS = {
    f"{GOLD_TRADES.name}.tag": "creator of tags killed before the first commit",
    f"{GOLD_OHLCV_1M.name}.tag": "creator of tags killed between two tables",
    f"{CANDLES[-1].name}.tagged": "creator of tags killed after the last commit",
}


def create(home: Path, name: str, tables: Sequence[str] = (), as_of: str | None = None) -> list[Tagged]:
    """Do what ``k2 tag create`` does."""
    lake = SmallLake(home)
    done, _ = NamedTags(lake.catalog, lake.namespace, lake.settings.maintenance).create(name, tables, _as_of(as_of))
    lake.catalog.close()
    return done


def create_many(home: Path, out: Path) -> None:
    """Tag the newest states, and states that may expire this moment; note how many rows each tag has."""
    lake, made = SmallLake(home), dict[str, int]()
    for number in itertools.count():
        # Every second time the oldest snapshot, which maintenance is about to remove.
        oldest = lake.table(GOLD_TRADES).metadata.snapshots[0].snapshot_id
        try:
            [done] = create(home, f"tag-{number}", [GOLD_TRADES.name], str(oldest) if number % 2 else None)
        except TagRefused as error:
            if "is neither a tag nor a snapshot id" not in str(error):
                raise
            continue  # it has expired meanwhile
        made[done.tag] = done.rows
        out.write_text(json.dumps(made))
        if len(made) == TAGS:
            return


def expire_all(home: Path, stop: Path) -> None:
    """Maintain at once again and again, hours apart by its clock, and remove files as soon as they are due."""
    lake, hours = SmallLake(home), [0]
    real = clock.now_ns
    clock.now_ns = lambda: real() + hours[0] * STEP_NS
    settings = Maintenance(
        gold_keep_s=1, hourly_tags=1, daily_tags=1, settle_s=0, compact_gold_after_s=0, compact_files=3
    )
    while not stop.exists():
        hours[0] += 1
        TableRound(lake.catalog, lake.namespace, GOLD_TRADES, settings).run()


def rows_under(lake: SmallLake, snapshot_id: int) -> list[int]:
    rows = lake.table(GOLD_TRADES).scan(snapshot_id=snapshot_id).to_arrow()
    return sorted(rows["source_sequence"].to_pylist())


def test_a_tag_keeps_its_rows_when_expiry_races_its_creation(tmp_path: Path, reliability: Faults) -> None:
    home, stop, out = tmp_path / "home", tmp_path / "stop", tmp_path / "made"
    lake, crashes, rows = SmallLake(home), Crashes(tmp_path), 0
    try:
        expiring = crashes.start(expire_all, home, stop)
        append(lake, rows)
        creating = crashes.start(create_many, home, out)
        while creating.lives:
            rows += 1
            append(lake, rows)
            assert expiring.lives, expiring.printed()
            time.sleep(0.05)  # both others share two cores with it
        creating.await_end()
        stop.touch()
        expiring.await_end()
    finally:
        crashes.end()

    metadata, made = lake.table(GOLD_TRADES).metadata, json.loads(out.read_text())
    found = {name: rows_under(lake, metadata.refs[name].snapshot_id) for name in made}
    lost = sum(made[name] - len(found[name]) for name in made)
    compared = sum(made.values())
    reliability.record("expiry beside the creation of tags", injected=len(made), compared=compared, lost=lost)
    assert len(made) == TAGS
    assert found == {name: list(range(count)) for name, count in made.items()}
    assert rows_under(lake, current_id(lake, GOLD_TRADES)) == list(range(rows + 1))
    assert len(metadata.snapshots) < rows
    lake.catalog.close()


def append(lake: SmallLake, number: int) -> None:
    """Commit one row beside two others that commit."""
    while True:
        try:
            lake.append(GOLD_TRADES, [a_trade(number)])
        except CommitFailedException:
            continue
        return


def k2_tag(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["tag", *arguments])


def tables_with_the_tag() -> list[str]:
    found = json.loads(k2_tag("list", "-o", "json").stdout)
    return [table["table"] for each in found for table in each["tables"]]


def test_what_a_killed_creator_left_is_listed_and_mended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kills: Kills, reliability: Faults
) -> None:
    home = tmp_path / "home"
    monkeypatch.setenv("K2_HOME", str(home))
    lake, crashes = SmallLake(home), Crashes(tmp_path)
    lake.append(GOLD_TRADES, [a_trade(1)])
    lake.candles_refresh().take_in_news()
    lake.refresh_wider_candles()
    states = {spec.name: current_id(lake, spec) for spec in GOLD}
    every = list(states)
    try:
        for point in dict.fromkeys(point for point, _ in kills(list(POINTS))):  # each has one visit
            crashes.start(create, home, "paper", at=point).await_crash()

            table, _, moment = point.partition(".")
            left = every[: every.index(table) + (moment == "tagged")]
            assert tables_with_the_tag() == left
            missing = [each for each in every if each not in left]
            # New data do not change which states the rest of the tag belongs to.
            lake.append(GOLD_TRADES, [a_trade(2, 60.0)])
            if left:
                refused = k2_tag("create", "paper")
                assert (refused.exit_code, f"exists already, of {', '.join(left)}" in refused.stderr) == (1, True)
            if left and missing:
                mended = k2_tag("create", "paper", *(part for each in missing for part in ("--table", each)))
                assert mended.exit_code == 0, mended.stderr
                assert tables_with_the_tag() == every
                refs = {spec.name: lake.table(spec).metadata.refs["paper"].snapshot_id for spec in GOLD}
                assert {name: refs[name] for name in missing} == {name: states[name] for name in missing}
            if left:
                assert k2_tag("delete", "paper").exit_code == 0
            assert tables_with_the_tag() == []
            again = k2_tag("create", "paper")
            assert (again.exit_code, tables_with_the_tag()) == (0, every), again.stderr
            assert k2_tag("delete", "paper").exit_code == 0
            reliability.record(POINTS[point], injected=1, compared=len(every), lost=0, doubled=0)
    finally:
        crashes.end()
        lake.catalog.close()

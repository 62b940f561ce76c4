"""The rule of thinning, held against its own words: hypothesis makes histories and lets time pass over them."""

from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from k2_assets.maintenance.history_thinning import Commit, History, Keep, Plan, periods, plan

START = datetime(2026, 10, 30, 22, 13, tzinfo=UTC)
HOUR_MS, DAY_MS = 3_600_000, 86_400_000
KEEP = Keep(all_ms=600_000)


def ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)


class Platform:
    """A table's history by the clock: commits and rounds of maintenance, as they would happen."""

    def __init__(self, keep: Keep = KEEP) -> None:
        self.keep = keep
        self.every: list[Commit] = []
        self.kept: list[Commit] = []
        self.tags: dict[str, int] = {}

    def commit(self, at_ms: int) -> None:
        made = Commit(len(self.every) + 1, at_ms)
        self.every.append(made)
        self.kept.append(made)

    def maintain(self, now_ms: int) -> Plan:
        history = History(
            self.kept,
            frozenset(each.snapshot_id for each in self.kept),
            self.tags,
            frozenset(each.snapshot_id for each in self.kept[-1:]),
        )
        made = plan(history, self.keep, now_ms)
        assert not made.create.keys() & self.tags.keys()
        self.tags |= made.create
        for name in made.lapse:
            del self.tags[name]
        assert not made.expire & set(self.tags.values())
        self.kept = [each for each in self.kept if each.snapshot_id not in made.expire]
        return made

    def state_at(self, moment_ms: int, among: list[Commit] | None = None) -> int | None:
        states = [each.snapshot_id for each in (self.every if among is None else among) if each.at_ms <= moment_ms]
        return states[-1] if states else None


def ended(kind: str, first_ms: int, now_ms: int, kept_ms: int | None) -> dict[str, int]:
    """The ends of the periods that must be tagged, by the tag's name."""
    since = 0 if kept_ms is None else now_ms - kept_ms
    found = list(periods(kind, first_ms, now_ms - KEEP.settle_ms))
    return {each.name: each.end_ms for each in found if each.end_ms > since}


gaps = st.lists(
    st.tuples(
        st.sampled_from(["commit", "commit", "commit", "maintain"]),
        st.sampled_from([1_000, 10_000, 60_000, 300_000, 1_800_000, HOUR_MS, 5 * HOUR_MS, DAY_MS, 9 * DAY_MS]),
    ),
    min_size=1,
    max_size=120,
)


@settings(max_examples=150, deadline=None)
@given(gaps)
def test_tags_name_the_true_last_states_whenever_maintenance_ran(steps: list[tuple[str, int]]) -> None:
    platform, now = Platform(), ms(START)
    platform.commit(now)
    for what, pause in [*steps, ("maintain", 60_000)]:
        now += pause
        if what == "commit":
            platform.commit(now)
            continue
        platform.maintain(now)
        wanted = {
            **ended("hour", ms(START), now, 24 * HOUR_MS),
            **ended("day", ms(START), now, 30 * DAY_MS),
            **ended("month", ms(START), now, None),
        }
        assert platform.tags == {name: platform.state_at(end) for name, end in wanted.items()}


@settings(max_examples=150, deadline=None)
@given(gaps)
def test_every_moment_that_is_kept_whole_shows_its_own_state(steps: list[tuple[str, int]]) -> None:
    platform, now = Platform(), ms(START)
    platform.commit(now)
    for what, pause in [*steps, ("maintain", 60_000)]:
        now += pause
        if what == "commit":
            platform.commit(now)
            continue
        platform.maintain(now)
        for back in range(0, KEEP.all_ms + 1, 30_000):
            assert platform.state_at(now - back, platform.kept) == platform.state_at(now - back)
        assert plan_is_settled(platform, now)


def plan_is_settled(platform: Platform, now_ms: int) -> bool:
    return platform.maintain(now_ms) == Plan()


def test_a_busy_day_keeps_few_snapshots() -> None:
    platform, now = Platform(), ms(START)
    for number in range(3 * 8_640):  # three days, a commit every ten seconds
        now += 10_000
        platform.commit(now)
        if number % 30 == 29:
            platform.maintain(now)
    assert len(platform.kept) <= 61 + 24 + 3 + 1
    hours = [name for name in platform.tags if name.startswith("auto-hour-")]
    assert len(hours) == 24


def test_tags_by_people_and_months_stay_for_ever() -> None:
    platform = Platform()
    platform.commit(ms(START))
    platform.tags["before-the-migration"] = 1
    platform.commit(ms(START) + 1_000)
    for years in range(1, 4):
        now = ms(START + timedelta(days=365 * years))
        platform.commit(now)
        platform.maintain(now)
    assert platform.tags["before-the-migration"] == 1
    assert platform.tags["auto-month-2026-10"] == 2
    assert len([name for name in platform.tags if name.startswith("auto-month-")]) == 36
    assert 1 in {each.snapshot_id for each in platform.kept}


def test_a_tag_that_somebody_deleted_is_not_made_again_with_another_state() -> None:
    platform = Platform()
    for minute in range(0, 300, 5):
        platform.commit(ms(START) + minute * 60_000)
        platform.maintain(ms(START) + minute * 60_000)
    assert "auto-hour-2026-10-31T00" in platform.tags
    del platform.tags["auto-hour-2026-10-31T00"]
    now = ms(START) + 301 * 60_000
    platform.maintain(now)
    assert "auto-hour-2026-10-31T00" not in platform.tags


def test_an_hour_that_has_just_ended_waits_for_commits_under_way_and_keeps_its_state() -> None:
    platform = Platform(Keep(all_ms=1_000))
    end = ms(datetime(2026, 10, 31, tzinfo=UTC))
    platform.commit(end - 5_000)
    platform.commit(end + 1_000)
    assert platform.maintain(end + 10_000).create == {}
    made = platform.maintain(end + KEEP.settle_ms).create
    assert made == {"auto-hour-2026-10-30T23": 1, "auto-day-2026-10-30": 1}


def test_names_that_people_may_choose_never_lapse() -> None:
    automatic = {"auto-hour-2026-11-21T06", "auto-day-2026-11-21"}
    chosen = {
        *("auto-hour-2026-11-21", "auto-hour-of-glory", "auto-year-2026", "2026-11-21", "auto-day-2026-11-21-a"),
        "auto-day-2026-13-99",
    }
    odd = Platform()
    odd.commit(ms(START))
    odd.tags |= dict.fromkeys(automatic | chosen, 1)
    odd.maintain(ms(START) + 400 * DAY_MS)
    assert odd.tags.keys() & (automatic | chosen) == chosen

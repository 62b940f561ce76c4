"""The chart of a backfill: a cell for each day, from what its runs say."""

from rich.console import Console

from k2_stack.backfill_chart import DONE, FAILED, RUNNING, WAITING, Run, chart, days_of, failed

SILVER, GOLD = "silver_binance_trades", "gold_crypto_trades"
AUGUST = [f"2024-08-{day:02}" for day in range(1, 32)]


def a_run(status: str, first: str, last: str, *reported: str, asset: str = SILVER) -> Run:
    return Run(f"{first} {status}", status, (asset,), first, last, frozenset((asset, day) for day in reported))


def test_days_are_as_the_furthest_of_their_runs() -> None:
    runs = [
        a_run("SUCCESS", "2024-08-01", "2024-08-01"),
        a_run("FAILURE", "2024-08-02", "2024-08-04", "2024-08-02", "2024-08-04"),
        a_run("STARTED", "2024-08-05", "2024-08-06", "2024-08-05"),
        a_run("QUEUED", "2024-08-07", "2024-08-07"),
        a_run("SUCCESS", "2024-08-01", "2024-08-31", asset=GOLD),
    ]

    states = days_of({SILVER: AUGUST[:8], GOLD: AUGUST[:1]}, runs, ended=False)

    assert list(states[SILVER].values()) == [DONE, DONE, FAILED, DONE, DONE, RUNNING, WAITING, WAITING]
    assert states[GOLD] == {"2024-08-01": DONE}
    ended = days_of({SILVER: AUGUST[:8], GOLD: AUGUST[:1]}, runs, ended=True)
    assert failed(ended) == {SILVER: "2024-08-03, 2024-08-06 to 2024-08-08"}


def test_a_failed_day_that_another_run_rebuilt_is_done() -> None:
    runs = [a_run("FAILURE", "2024-08-01", "2024-08-01"), a_run("SUCCESS", "2024-08-01", "2024-08-01")]
    assert days_of({SILVER: AUGUST[:1]}, runs, ended=True) == {SILVER: {"2024-08-01": DONE}}


def test_chart_has_a_cell_at_each_day_of_its_month() -> None:
    runs = [a_run("SUCCESS", "2024-08-30", "2024-08-31"), a_run("FAILURE", "2024-09-01", "2024-09-01")]
    states = days_of({SILVER: ["2024-08-30", "2024-08-31", "2024-09-01", "2024-09-02"]}, runs, ended=False)

    assert chart(states, 20).plain.splitlines() == [
        f"{SILVER}  2024-08  {' ' * 29}██",
        f"{SILVER}  2024-09  ✗·{' ' * 29}",
        "█ 2 done  ▒ 0 running  ✗ 1 failed  · 1 waiting  ",
    ]
    console = Console(width=80, force_terminal=True, color_system="standard")
    with console.capture() as shown:
        console.print(chart(states, 20))
    assert "\x1b[1;31m✗" in shown.get()


def test_years_fit_on_a_terminal_and_the_months_that_differ_stay() -> None:
    days = [
        f"{year}-{month:02}-{day:02}" for year in range(2014, 2025) for month in range(1, 13) for day in range(1, 29)
    ]
    runs = [a_run("SUCCESS", "2014-01-01", "2020-05-10"), a_run("FAILURE", "2020-05-11", "2020-05-11")]

    lines = chart(days_of({SILVER: days}, runs, ended=False), 10).plain.splitlines()

    assert lines[0] == "76 months done, 55 months waiting"
    assert lines[1].startswith(f"{SILVER}  2020-05  {'█' * 10}✗{'·' * 17}")
    assert len(lines) == 3

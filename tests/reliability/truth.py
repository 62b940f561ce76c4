"""What a simulated market really did, held against what gold holds and what the feeds said they missed."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from k2_core import clock
from k2_core.venues import VENUES

Id = tuple[str, str, int]
"""Venue, symbol of K2, trade id."""
Trade = tuple[Decimal, Decimal, str, int]
"""Price, quantity, the aggressor's side, µs since 1970."""
Side = tuple[Decimal, Decimal] | None
Quote = tuple[str, str, int, Side, Side]
"""Venue, symbol of K2, Binance's u or else µs since 1970, bid, ask: a price and a quantity, or no such side."""
_EXAMPLES = 5
_IN_FLIGHT_US = 3_000_000  # what a connection that breaks had been given and not read, and until one is subscribed


@dataclass(frozen=True)
class Outcome:
    """What a comparison of trades found.

    Between the first and the last trade of each instrument that gold holds: what came before the feed was there, or
    had not come yet when it ended, is no loss.
    """

    compared: int
    missing: frozenset[Id]
    reported: frozenset[Id]
    invented: frozenset[Id]
    differing: tuple[tuple[Id, Trade, Trade], ...]
    twice: frozenset[Id]

    def assert_exact(self) -> None:
        """Gold is the truth less exactly what the feeds reported as gaps."""
        assert not self.twice, _some(self.twice)
        assert not self.invented, _some(self.invented)
        assert not self.differing, _some(self.differing)
        silent, untrue = self.missing - self.reported, self.reported - self.missing
        assert not silent, f"{len(silent)} ids are missing that no feed reported: {_some(silent)}"
        assert not untrue, f"{len(untrue)} ids were reported as gaps and stand in gold: {_some(untrue)}"
        assert self.compared


@dataclass
class Truth:
    """The files that the simulator wrote, of all its lives."""

    folder: Path
    trades: dict[Id, Trade] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for row in lines(self.folder / "trades.jsonl"):
            key = row["venue"], symbol_of(row["venue"], row["symbol"]), row["id"]
            value = Decimal(row["price"]), Decimal(row["quantity"]), row["side"], row["time_us"]
            assert self.trades.setdefault(key, value) == value, f"the market says two things of {key}"

    def dropped(self, data: str = "trades") -> list[dict[str, Any]]:
        """Return what the simulator kept from its clients by its faults."""
        return [row for row in lines(self.folder / "dropped.jsonl") if row["data"] == data]

    def injected(self) -> Mapping[str, int]:
        """Return how often each fault was injected."""
        counts: dict[str, int] = defaultdict(int)
        for row in lines(self.folder / "faults.jsonl"):
            if not row["fault"].endswith(("_over", "_came", "_left")):
                counts[row["fault"]] += 1
        return counts

    def assert_quotes(self, gold: Iterable[Mapping[str, Any]]) -> int:
        """Hold rows of gold_crypto_quotes against the truth; return how many quotes of the truth were looked for.

        Quotes have no ids without holes: what is missing must have been kept from the feed by a fault, or have come
        while it had no connection, or one that was about to break.
        """
        found = Counter(_gold_quote(row) for row in gold)
        assert set(found.values()) == {1}, _some(quote for quote, count in found.items() if count > 1)
        truth = {_true_quote(row): row["told_us"] for row in lines(self.folder / "quotes.jsonl")}
        invented = found.keys() - truth.keys()
        assert not invented, f"{len(invented)} quotes are not the market's: {_some(invented)}"
        kept_back = {_true_quote(row) for row in self.dropped("quotes")}
        away = self._away()
        times: dict[tuple[str, str], list[int]] = defaultdict(list)
        for quote in found:
            times[quote[:2]].append(truth[quote])
        spans = {instrument: (min(of), max(of)) for instrument, of in times.items()}
        expected = [q for q, at_us in truth.items() if q[:2] in spans and spans[q[:2]][0] <= at_us <= spans[q[:2]][1]]
        missing = [quote for quote in expected if quote not in found and quote not in kept_back]
        silent = [q for q in missing if not any(first <= truth[q] <= last for first, last in away[q[0]])]
        assert not silent, f"{len(silent)} of {len(expected)} quotes are missing without a reason: {_some(silent)}"
        return len(expected)

    def _away(self) -> dict[str, list[tuple[int, int]]]:
        """Return when each venue had no client, with a margin, in µs."""
        clients: dict[str, set[int]] = defaultdict(set)
        away: dict[str, list[tuple[int, int]]] = defaultdict(list)
        left_us: dict[str, int] = defaultdict(int)
        for row in lines(self.folder / "faults.jsonl"):
            venue, at_us = row["venue"], row["at_ns"] // 1000
            if row["fault"] == "client_left":
                clients[venue].discard(row["client"])
                left_us[venue] = at_us if not clients[venue] else left_us[venue]
                away[venue].append((at_us - _IN_FLIGHT_US, at_us))
            elif row["fault"] == "client_came":
                since_us = at_us if clients[venue] else left_us[venue]
                away[venue].append((since_us, at_us + _IN_FLIGHT_US))
                clients[venue].add(row["client"])
        return away

    def compare(self, gold: Iterable[Mapping[str, Any]], gaps: Iterable[Id]) -> Outcome:
        """Hold rows of gold_crypto_trades, and the ids of the feeds' gaps, against the truth."""
        found: dict[Id, Trade] = {}
        twice: set[Id] = set()
        for row in gold:
            key = row["exchange"], row["symbol"], int(row["trade_id"])
            twice |= {key} & found.keys()
            found[key] = row["price"], row["quantity"], row["side"], clock.to_us(row["timestamp"])
        spans = _spans(found)
        expected = {key for key in self.trades if _within(key, spans)}
        differing = [(k, v, self.trades[k]) for k, v in found.items() if k in self.trades and self.trades[k] != v]
        return Outcome(
            len(expected),
            frozenset(expected - found.keys()),
            frozenset(key for key in gaps if _within(key, spans)),
            frozenset(found.keys() - self.trades.keys()),
            tuple(differing),
            frozenset(twice),
        )


def gaps_of(events: Iterable[Mapping[str, Any]]) -> set[Id]:
    """Return every id that the feeds report as missing; what is reported as recovered is missing no more."""
    ids: set[Id] = set()
    for event in events:
        details = dict(event["details"])
        if event["kind"] != "gap" and (event["kind"], details.get("state")) != ("recovered", "gap"):
            continue
        symbol = symbol_of(event["venue"], event["symbol"])
        first, last = int(details["first_missing"]), int(details["last_missing"])
        run = {(event["venue"], symbol, each) for each in range(first, last + 1)}
        ids = ids | run if event["kind"] == "gap" else ids - run
    return ids


def symbol_of(venue: str, venue_symbol: str) -> str:
    """Return K2's symbol."""
    instrument = VENUES[venue].instrument_of(venue_symbol)
    assert instrument, (venue, venue_symbol)
    return str(instrument.symbol)


def lines(path: Path) -> Iterator[dict[str, Any]]:
    """Yield a file's objects; nothing when it was never written."""
    if path.exists():
        with path.open(encoding="utf-8") as file:
            yield from map(json.loads, file)


def _spans(found: Iterable[Id]) -> dict[tuple[str, str], tuple[int, int]]:
    spans: dict[tuple[str, str], tuple[int, int]] = {}
    for venue, symbol, number in found:
        first, last = spans.get((venue, symbol), (number, number))
        spans[venue, symbol] = min(first, number), max(last, number)
    return spans


def _within(key: Id, spans: Mapping[tuple[str, str], tuple[int, int]]) -> bool:
    first, last = spans.get(key[:2], (0, -1))
    return first <= key[2] <= last


def _gold_quote(row: Mapping[str, Any]) -> Quote:
    sides = [_side(row[f"{side}_price"], row[f"{side}_quantity"]) for side in ("bid", "ask")]
    place = row["source_sequence"] if row["exchange"] == "binance" else clock.to_us(row["timestamp"])
    return row["exchange"], row["symbol"], place, *sides


def _true_quote(row: Mapping[str, Any]) -> Quote:
    sides = [_side(row[side], row[f"{side}_quantity"]) for side in ("bid", "ask")]
    place = row["time_us"] if row["id"] is None else row["id"]
    return row["venue"], symbol_of(row["venue"], row["symbol"]), place, *sides


def _side(price: str | Decimal | None, quantity: str | Decimal | None) -> Side:
    return None if price is None or quantity is None else (Decimal(price), Decimal(quantity))


def _some(found: Iterable[object]) -> list[object]:
    return sorted(found, key=repr)[:_EXAMPLES]

"""The text of messages: all changes of one look in at most two, one of what is bad and one of what recovered. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import msgspec

from k2_assets.alerts.alert_conditions import Condition, Severity, moment
from k2_assets.alerts.transitions import News

Urgency = Literal["failure", "warning", "info", "success"]


class Message(msgspec.Struct, frozen=True):
    """What is sent; ``keys`` are the conditions that it reports. ``success``: nothing that was reported is bad now."""

    title: str
    body: str
    urgency: Urgency
    keys: tuple[str, ...] = ()


@dataclass(frozen=True)
class Links:
    """Where links of messages lead: the address of Dagster's pages, and that of the runbook."""

    ui: str
    runbook: str

    def of(self, condition: Condition) -> str:
        """Return the link to what a condition is about; empty when it has none."""
        whole = "://" in condition.link or not condition.link
        return condition.link if whole else f"{self.ui.rstrip('/')}{condition.link}"


def messages(news: Sequence[News], links: Links, lines: int, now_s: float, *, all_well: bool) -> list[Message]:
    """Return the messages of one look.

    Args:
        news: the changes.
        links: of the settings.
        lines: a message lists at most so many conditions, the worst first, and counts the others.
        now_s: seconds since 1970.
        all_well: whether nothing that was reported is bad any more.
    """
    bad = sorted((each for each in news if each.what != "recovered"), key=lambda each: -each.condition.severity)
    over = [each for each in news if each.what == "recovered"]
    found = []
    if bad:
        worst = bad[0].condition.severity
        urgency: Urgency = "failure" if worst is Severity.ERROR else "warning"
        texts = [_bad(each, links) for each in bad[:lines]]
        found.append(_message(_title(worst.name.lower(), bad), texts, bad, urgency))
    if over:
        texts = [_recovered(each, links, now_s) for each in over[:lines]]
        found.append(_message(_title("recovered", over), texts, over, "success" if all_well else "info"))
    return found


def _message(title: str, texts: list[str], news: Sequence[News], urgency: Urgency) -> Message:
    more = len(news) - len(texts)
    parts = [*texts, *([f"and {more} more: `k2 alerts list` shows all"] if more else [])]
    return Message(title, "\n\n".join(parts), urgency, tuple(each.condition.key for each in news))


def _title(word: str, news: Sequence[News]) -> str:
    more = f" and {len(news) - 1} more" if len(news) > 1 else ""
    return f"K2 {word}: {news[0].condition.label}{more}"


def _bad(news: News, links: Links) -> str:
    condition = news.condition
    worse = ", which was a warning before" if news.what == "worse" else ""
    again = f", bad {news.times} times since the last message" if news.times else ""
    lines = [
        f"{condition.severity.name}{worse}: {condition.label}",
        condition.seen,
        f"since {moment(news.bad_since_s)}{again}",
        links.of(condition),
        f"runbook: {links.runbook}#{condition.runbook}",
    ]
    return "\n".join(line for line in lines if line)


def _recovered(news: News, links: Links, now_s: float) -> str:
    lasted_s = max(now_s - news.bad_since_s, 0.0)
    lines = [f"recovered: {news.condition.label}", f"it was bad for {lasted_s:.0f} s", links.of(news.condition)]
    return "\n".join(line for line in lines if line)

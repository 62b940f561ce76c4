"""Which changes of conditions are worth a message now: became bad, got worse, recovered. Pure.

What a condition was reported as is part of its state; a message is due when that differs from how it is. So nothing is
lost while messages cannot be sent, and nothing is reported twice.
"""

from collections.abc import Collection, Iterable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Literal

import msgspec

from k2_assets.alerts.alert_conditions import Condition, Kind, Severity

What = Literal["bad", "worse", "recovered"]


class Known(msgspec.Struct):
    """A condition that was seen, how it is, and what was reported of it; times in seconds since 1970.

    Args:
        condition: as it was last seen to be bad.
        bad: whether it is bad now.
        bad_since_s: since when; kept after its end.
        reported: the highest severity that was reported and not taken back by "recovered".
        window_s: when its last window began, in which each severity is reported at most once.
        window_severity: the highest severity that was reported in that window.
        times: how often it became bad since that window began.
    """

    condition: Condition
    bad: bool
    bad_since_s: float
    reported: Severity = Severity.NONE
    window_s: float = 0.0
    window_severity: Severity = Severity.NONE
    times: int = 0


@dataclass(frozen=True)
class Limits:
    """What the settings allow: the least severity that is reported, and how long a window is."""

    minimum: Severity
    again_after_s: float


@dataclass(frozen=True)
class News:
    """A change to report. ``times``: how often the condition was bad since it was last reported, if more than once."""

    what: What
    condition: Condition
    bad_since_s: float
    times: int = 0


def take_in(known: MutableMapping[str, Known], kinds: Collection[Kind], bad: Iterable[Condition], now_s: float) -> None:
    """Take in a look: what is bad of these kinds now, which is all of it. Other kinds were not looked at, and stay."""
    seen = {each.key: each for each in bad}
    for key, condition in seen.items():
        before = known.get(key)
        if before is None:
            before = known[key] = Known(condition, bad=False, bad_since_s=now_s)
        if not before.bad:
            before.bad, before.bad_since_s = True, min(condition.since_s or now_s, now_s)
            before.times += 1
        before.condition = condition
    for key, before in known.items():
        if before.condition.kind in kinds and key not in seen:
            before.bad = False


def forget(known: MutableMapping[str, Known], keys: Iterable[str]) -> None:
    """Drop conditions of which nothing more can be learned, without a message: they did not recover."""
    for key in keys:
        known.pop(key, None)


def due(known: MutableMapping[str, Known], limits: Limits, now_s: float, *, send: bool = True) -> list[News]:
    """Return the changes to report now, and mark them as reported. Drops what is over.

    In a window a condition is reported at most once for each severity, and each time with its end. A window begins with
    a report, and the next one at the earliest ``again_after_s`` later. So a condition that comes and goes is reported
    once a window, while its first end is reported at once.

    Args:
        known: all conditions.
        limits: of the settings.
        now_s: seconds since 1970.
        send: whether there is anybody to send to; if not, what is bad now is reported once there is.
    """
    news = []
    for key, each in list(known.items()):
        in_window = now_s < each.window_s + limits.again_after_s
        condition, severity = each.condition, each.condition.severity
        if each.bad:
            patient = now_s >= each.bad_since_s + condition.patience_s
            allowed = not in_window or severity > each.window_severity
            if send and patient and allowed and severity > each.reported and severity >= limits.minimum:
                what: What = "worse" if each.reported else "bad"
                news.append(News(what, condition, each.bad_since_s, each.times if each.times > 1 else 0))
                if not in_window:
                    each.window_s, each.times = now_s, 0
                each.window_severity, each.reported = severity, severity
        else:
            if each.reported and send:
                news.append(News("recovered", condition, each.bad_since_s))
            each.reported = Severity.NONE
            if not in_window:
                del known[key]
    return news


def still_reported(known: Mapping[str, Known]) -> bool:
    """Tell whether a condition that was reported is still bad."""
    return any(each.reported for each in known.values())

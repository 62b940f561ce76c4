"""Whether alerts work, for ``k2 status``: from what their sensor remembers. Loads neither Dagster nor apprise."""

import sqlite3
from collections.abc import Iterator
from typing import Final, Literal, TypedDict

from k2_assets.alerts.alert_store import opened_to_read
from k2_core import clock
from k2_core.settings import Settings

State = Literal["working", "no URLs set", "silent", "not delivered", "in part", "stopped", "unknown"]
_WARNED_OF: Final = ("silent", "not delivered", "in part", "unknown")


class AlertStatus(TypedDict):
    """Alerts: ``state`` and, in ``message``, what follows from it.

    ``age_s``: since the last look, None when there was none; ``bad``: conditions that are bad; ``waiting``: messages
    that were not delivered yet; ``targets``: the URLs that messages go to, without their secrets, None where no message
    was tried yet.
    """

    state: State
    message: str
    age_s: float | None
    bad: int
    waiting: int
    targets: list[str | None]


def alert_status(settings: Settings, running_since_s: float | None) -> AlertStatus:
    """Return how alerts are.

    Args:
        settings: of the home.
        running_since_s: when its platform began, in seconds since 1970; None when none runs.
    """
    found: AlertStatus = {"state": "unknown", "message": "", "age_s": None, "bad": 0, "waiting": 0, "targets": []}
    try:
        with opened_to_read(settings.home) as store:
            look, targets = (store.look(), store.targets()) if store else (None, [])
            found["bad"] = sum(each.bad for each in store.known().values()) if store else 0
    except sqlite3.Error as error:
        found["message"] = f"what they remember cannot be read ({error})"
        return found
    found["targets"] = [each.label for each in targets]
    found["waiting"] = sum(each.waiting for each in targets)
    now_s = clock.now_s()
    found["age_s"] = max(now_s - look.looked_s, 0.0) if look else None
    failing = [each for each in targets if each.error]
    silent_s = now_s - max(look.looked_s if look else 0.0, running_since_s or 0.0)
    if running_since_s is None:
        found["state"], found["message"] = "stopped", "nothing looks while the platform does not run"
    elif silent_s > settings.alerts.silent_after_s:
        message = f"their sensor has not looked for {silent_s:.0f} s: see alerts_sensor in Dagster"
        found["state"], found["message"] = "silent", f"{message}, and `k2 logs dagster-daemon`"
    elif failing:
        worst = max(failing, key=lambda each: each.waiting)
        message = f"the last message to {worst.label} was not delivered: {worst.error}"
        found["state"], found["message"] = "not delivered", f"{message} (waiting: {found['waiting']})"
    elif look and look.trouble:
        found["state"], found["message"] = "in part", look.trouble
    elif look and not targets:
        found["state"], found["message"] = "no URLs set", "`k2 alerts test` tells how to set one"
    elif look:
        found["state"], found["message"] = "working", f"URLs: {len(targets)}, conditions that are bad: {found['bad']}"
    else:
        found["state"], found["message"] = "working", "the first look comes within seconds"
    return found


def warnings(found: AlertStatus) -> Iterator[str]:
    """Warn of alerts that would not be sent or not be seen; to have set no URL is a choice."""
    if found["state"] in _WARNED_OF:
        yield f"alerts: {found['message']}"

"""Send messages with apprise, which knows Slack, e-mail, PagerDuty and a hundred others. URLs are secrets here.

apprise is loaded when there is something to send, and never before. What it reports of an attempt is stripped of every
piece of the URL before anyone sees it.
"""

import hashlib
import logging
import re
from collections.abc import Iterable
from typing import Final, NamedTuple
from urllib.parse import unquote

from k2_assets.alerts.alert_conditions import sentence
from k2_assets.alerts.alert_store import AlertStore
from k2_assets.alerts.messages import Message
from k2_core import clock
from k2_core.errors import SettingsError
from k2_core.logs import logger
from k2_core.settings import Alerts

log = logger(__name__)

_ATTEMPT_S: Final = 20.0
_ROUND_S: Final = 30.0  # Dagster ends a sensor's evaluation after 60 s
_SHORT: Final = 4  # pieces of a URL that are shorter are no secrets: a port, a flag
_LEVELS: Final = ("WARNING", "ERROR", "CRITICAL")


class Answer(NamedTuple):
    """What became of an attempt: the service and host, and why it failed; empty when it succeeded."""

    label: str
    error: str


def urls_of(alerts: Alerts) -> dict[str, str]:
    """Return the URLs of the settings and of their file, by digest; in their order, each once.

    Raises:
        SettingsError: the file cannot be read.
    """
    urls = [each.get_secret_value() for each in alerts.urls]
    if alerts.urls_file is not None:
        try:
            lines = alerts.urls_file.expanduser().read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            msg = f"K2_ALERTS__URLS_FILE cannot be used: {alerts.urls_file} cannot be read ({why})."
            raise SettingsError(msg) from None
        urls += [line for line in map(str.strip, lines) if line and not line.startswith("#")]
    return {hashlib.sha256(url.encode()).hexdigest()[:16]: url for url in urls}


def send(url: str, message: Message) -> Answer:
    """Send a message to one URL, and return what became of it. Never raises for what the URL or its server does."""
    # Its own log lines may show a URL, and must not reach the log of this process.
    logging.getLogger("apprise").propagate = False
    import apprise  # noqa: PLC0415  # takes tenths of a second; most looks have nothing to send

    asset = apprise.AppriseAsset(app_id="K2", app_desc="K2, a market-data lakehouse", app_url="", async_mode=False)
    try:
        service = apprise.Apprise.instantiate(url, asset=asset)
        if service is None:
            return Answer("a URL that apprise does not know", "it is no URL of apprise, or lacks a part of one")
        # The host of many services' URLs is a token: only where apprise calls it a host, it is one.
        host = f" at {service.host}" if "host" in service.template_tokens and service.host else ""
        label = f"{service.service_name}{host}"
        outgoing = apprise.Apprise(asset=asset)
        outgoing.add(service)
        with outgoing.notify(
            title=message.title,
            body=message.body,
            notify_type=message.urgency,
            body_format=apprise.NotifyFormat.TEXT,
            timeout=_ATTEMPT_S,
        ) as result:
            if result:
                return Answer(label, "")
            lines = [entry.message for entry in result.logs() if entry.level in _LEVELS]
            why = "; ".join(dict.fromkeys(lines)) or f"no answer ({result.status.name.lower()})"
            return Answer(label, _without_secrets(why, url, host))
    except Exception as error:  # noqa: BLE001  # a plugin's own fault must not end the look, and may name the URL
        return Answer("a service", f"{type(error).__name__} in apprise")


def send_waiting(store: AlertStore, urls: dict[str, str]) -> None:
    """Send what waits to every target whose pause is over, oldest first; a target's first failure ends its turn."""
    ends = clock.monotonic() + _ROUND_S
    for target in store.targets():
        if not target.waiting or clock.now_s() < target.again_s:
            continue
        for number, message in store.waiting(target.id):
            if clock.monotonic() > ends:
                return
            answer = send(urls[target.id], message)
            if answer.error:
                log.warning("an alert was not delivered", target=answer.label, error=answer.error)
                store.failed(target, answer.label, answer.error, clock.now_s())
                break
            # A process that is killed between these two lines sends the message again.
            store.delivered(number, target.id, answer.label, clock.now_s())
            log.info("an alert was delivered", target=answer.label, title=message.title)


def _without_secrets(text: str, url: str, host: str) -> str:
    """Return a text without any URL and without any piece of this one but its host."""
    text = re.sub(r"\S+://\S+", "(a URL)", text)
    for piece in sorted(_pieces(url), key=len, reverse=True):
        if piece not in host:
            text = re.sub(re.escape(piece), "…", text, flags=re.IGNORECASE)
    return sentence(text)


def _pieces(url: str) -> Iterable[str]:
    rest = url.partition("://")[2]
    found = {*re.split(r"[/?#&=:@,;]+", rest), *re.split(r"[/?#&=:@,;]+", unquote(rest)), rest}
    return {piece for piece in found if len(piece) >= _SHORT}

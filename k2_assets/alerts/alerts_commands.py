"""The commands ``k2 alerts …``: what is bad now, and whether messages of it arrive."""

import sys

import click

_NOT_SET = """\
No URL is set, so nothing is sent. Set K2_ALERTS__URLS to a JSON list, or K2_ALERTS__URLS_FILE to a file with one URL a
line, before `k2 up`:
  export K2_ALERTS__URLS='["slack://TokenA/TokenB/TokenC/#alerts", "mailtos://user:password@host?to=ops@host"]'
docs/alerts.md has the URLs of Slack, e-mail, PagerDuty and webhooks."""


@click.group()
def alerts() -> None:
    """Show what is bad now, and test where messages of it go."""


@alerts.command()
def test() -> None:
    """Send a test message to each URL of the settings, and show what became of it.

    Only the service and its host are shown. The exit status is 0 when every message was delivered, 1 when one was not,
    and 2 when no URL is set.
    """
    from k2_assets.alerts.delivery import send, urls_of
    from k2_assets.alerts.messages import Message
    from k2_core.settings import load_settings

    settings = load_settings()
    urls = urls_of(settings.alerts)
    if not urls:
        click.echo(_NOT_SET, err=True)
        sys.exit(2)
    message = Message("K2 test", f"This is a test of the alerts of {settings.home}. Nothing is wrong.", "info")
    failed = 0
    for url in urls.values():
        answer = send(url, message)
        failed += bool(answer.error)
        click.echo(f"{answer.label}: {f'not delivered: {answer.error}' if answer.error else 'delivered'}")
    sys.exit(1 if failed else 0)


@alerts.command("list")
def show() -> None:
    """Show what is bad now, since when, and whether a message of it was delivered."""
    from k2_assets.alerts.alert_conditions import moment
    from k2_assets.alerts.alert_store import opened_to_read
    from k2_core.settings import load_settings

    settings = load_settings()
    with opened_to_read(settings.home) as store:
        look = store.look() if store else None
        bad = [each for each in store.known().values() if each.bad] if store else []
        waiting = store.waiting_keys() if store else set[str]()
    if look is None:
        click.echo(f"{settings.home}: nothing has looked yet; the sensor of alerts does while the platform runs.")
        return
    click.echo(f"conditions that are bad, as seen at {moment(look.looked_s)}: {len(bad)}")
    for each in sorted(bad, key=lambda known: (-known.condition.severity, known.bad_since_s)):
        condition = each.condition
        message = "waits" if condition.key in waiting else "delivered" if each.reported else "not sent"
        click.echo(f"{condition.severity.name}: {condition.label}, since {moment(each.bad_since_s)}, message {message}")
        click.echo(f"    {condition.seen}")

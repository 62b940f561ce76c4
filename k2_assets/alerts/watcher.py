"""One look: read what is bad now, store it with the messages that follow from it, and send what waits."""

from collections.abc import Callable, Iterable
from typing import Final

import dagster as dg

from k2_assets.alerts import dagster_conditions as dagster_logs
from k2_assets.alerts.alert_conditions import Condition, Kind, Severity, sentence
from k2_assets.alerts.alert_store import AlertStore, Look, opened
from k2_assets.alerts.dagster_conditions import Bad, Events, Read
from k2_assets.alerts.delivery import send_waiting, urls_of
from k2_assets.alerts.messages import Links, messages
from k2_assets.alerts.platform_conditions import read_feed, read_kept_runs, works
from k2_assets.alerts.transitions import Limits, due, forget, still_reported, take_in
from k2_assets.kept_runs.kept_run import kept_runs
from k2_assets.kept_runs.run_lease import leases_in
from k2_core import clock, process_identity
from k2_core.errors import SettingsError
from k2_core.logs import logger
from k2_core.settings import Settings

log = logger(__name__)

_LEASE: Final = "alerts"
_SELDOM_S: Final = 30.0  # Dagster judges freshness no more often


class Watcher:
    """Looks for one code location; all that it remembers between looks is how to save work."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._limits = Limits(Severity[settings.alerts.minimum_severity.upper()], settings.alerts.again_after_s)
        ui = settings.alerts.ui_url or f"http://127.0.0.1:{settings.ports.dagster}"
        self._links = Links(ui, settings.alerts.runbook_url)
        self._kept = {kept.job: works(kept) for kept in kept_runs(settings)}
        self._launched_s = process_identity.this_process().started  # sensors run where runs are launched
        self._seldom_at = 0.0
        self._graph: object = None
        self._checks: frozenset[dg.AssetCheckKey] = frozenset()
        self._with_policy: list[dg.AssetKey] = []

    def look(self, instance: dg.DagsterInstance, repository: dg.RepositoryDefinition) -> str:
        """Look once, and return what was seen in a sentence. A second look at the same time does nothing.

        Raises:
            sqlite3.Error: what alerts remember cannot be read or written.
            SQLAlchemyError: nobody can tell whether another look is under way.
        """
        home = self._settings.home
        (home / "run").mkdir(parents=True, exist_ok=True)
        with leases_in(home / "run").held(_LEASE, wait_s=0) as lease:
            if lease is None:
                return "another look is under way"
            with opened(home) as store:
                return self._look(store, instance, repository)

    def _look(self, store: AlertStore, instance: dg.DagsterInstance, repository: dg.RepositoryDefinition) -> str:
        alerts, now_s, trouble = self._settings.alerts, clock.now_s(), []
        try:
            urls = urls_of(alerts)
            store.set_targets(list(urls))
        except SettingsError as error:  # what waits stays, until the file can be read again
            urls = {}
            trouble.append(str(error))
        known, position, events = store.known(), store.position(), None
        try:
            events = dagster_logs.read_events(instance, position)
        except Exception as error:  # noqa: BLE001  # what cannot be read must not hide what others see
            trouble.append(_cannot("Dagster's log", error))
        for kind, read_now in self._readers(instance, repository, events, now_s).items():
            before = {key: each.condition for key, each in known.items() if each.bad and each.condition.kind == kind}
            try:
                read = read_now(before)
            except Exception as error:  # noqa: BLE001  # the same
                trouble.append(_cannot(f"conditions of the kind {kind}", error))
                continue
            take_in(known, (kind,), read.bad.values(), now_s)
            forget(known, read.forgotten)
        news = due(known, self._limits, now_s, send=bool(store.targets()))
        to_send = messages(news, self._links, alerts.lines, now_s, all_well=not still_reported(known))
        store.commit(known, events.position if events else position, to_send, Look(now_s, "; ".join(trouble)))
        if urls:
            send_waiting(store, urls)
        count = sum(each.bad for each in known.values())
        return f"{count or 'no'} conditions are bad; {len(news)} changes to report" + "".join(f"; {t}" for t in trouble)

    def _readers(
        self, instance: dg.DagsterInstance, repository: dg.RepositoryDefinition, events: Events | None, now_s: float
    ) -> dict[Kind, Callable[[Bad], Read]]:
        """Return what is read at this look."""
        settings, graph = self._settings, repository.asset_graph
        if self._graph is not graph:
            self._graph, self._checks = graph, frozenset(graph.asset_check_keys)
            self._with_policy = [key for key in graph.get_all_asset_keys() if graph.get(key).freshness_policy]

        def all_of(conditions: Iterable[Condition]) -> Read:
            return Read({each.key: each for each in conditions})

        readers: dict[Kind, Callable[[Bad], Read]] = {
            "kept_run": lambda _: all_of(read_kept_runs(settings, self._launched_s, now_s)),
            "feed": lambda _: all_of(read_feed(settings) if settings.alerts.feed else ()),
        }
        if events is not None:
            readers["check"] = lambda bad: dagster_logs.read_checks(events, bad, self._checks, now_s)
            readers["run"] = lambda bad: dagster_logs.read_runs(instance, events, bad, self._kept, now_s)
        if clock.monotonic() >= self._seldom_at:
            self._seldom_at = clock.monotonic() + _SELDOM_S
            readers["freshness"] = lambda _: Read(dagster_logs.read_freshness(instance, self._with_policy))
            readers["sensor"] = lambda bad: Read(dagster_logs.read_sensors(instance, bad))
        return readers


def _cannot(what: str, error: Exception) -> str:
    log.warning("an alert's source cannot be read", what=what, error=str(error))
    return sentence(f"{what} cannot be read ({type(error).__name__}: {error})")

"""What the settings say of retention, table by table. Nothing here opens a table."""

from dataclasses import dataclass
from typing import Final

from k2_core.errors import SettingsError
from k2_core.lake.manifests import LakeFile
from k2_core.lake.table_spec import TableSpec
from k2_core.lake.tables import all_tables
from k2_core.settings import LegalHold, Retention
from k2_core.venues import VENUES

_ANY: Final = "*"
_OF_VENUES: Final = {f"{layer}_{venue}": venue for layer in ("bronze", "silver") for venue in VENUES}


@dataclass(frozen=True)
class TablePolicy:
    """For how many days a table keeps a row after it was ingested, and the legal holds that concern it."""

    spec: TableSpec
    days: int
    holds: tuple[LegalHold, ...]


def policies(settings: Retention) -> list[TablePolicy]:
    """Return the policy of each table of which something may be removed; none under ``archive``.

    Raises:
        SettingsError: a name is not that of a table, or of one whose rows may be removed.
    """
    specs = {spec.name: spec for spec in all_tables(tuple(VENUES))}
    removable = {name: spec for name, spec in specs.items() if spec.retention_days is not None}
    for name in settings.days.keys() - removable.keys():
        why = "is always kept" if name in specs else "is no table"
        msg = f"K2_RETENTION__DAYS cannot be used: {name} {why}; it may name {', '.join(removable)}."
        raise SettingsError(msg)
    for hold in settings.legal_holds:
        for name, known in ((hold.table, specs), (hold.exchange, VENUES)):
            if name not in {_ANY, *known}:
                msg = f"K2_RETENTION__LEGAL_HOLDS cannot be used: {name} is none of {', '.join(known)}, and not *."
                raise SettingsError(msg)
    if settings.profile == "archive":
        return []
    kept = {name: settings.days.get(name, spec.retention_days) for name, spec in removable.items()}
    return [
        TablePolicy(removable[name], days, tuple(hold for hold in settings.legal_holds if concerns(hold, name)))
        for name, days in kept.items()
        if days is not None
    ]


def concerns(hold: LegalHold, table: str) -> bool:
    """Return whether a hold is of a table: by its name, and by the venue in it if it has one."""
    venue = next((venue for prefix, venue in _OF_VENUES.items() if table.startswith(f"{prefix}_")), _ANY)
    return hold.table in {_ANY, table} and (_ANY in {hold.exchange, venue} or hold.exchange == venue)


def may_hold(hold: LegalHold, file: LakeFile) -> bool:
    """Return whether a file may have rows of a hold's exchange and symbol; one without bounds may have any."""
    exchange = None if hold.exchange == _ANY else hold.exchange
    wanted = ((exchange, file.exchanges), (hold.symbol, file.symbols))
    return all(name is None or bounds is None or bounds[0] <= name <= bounds[1] for name, bounds in wanted)

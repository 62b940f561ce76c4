"""A kept run: a long-lived Dagster run of which there is always one. Its name, its files and its limits."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from k2_core.settings import Settings

_LONG_DAYS: Final = 6  # times as long as a drain


@dataclass(frozen=True)
class KeptRun:
    """What the heartbeat, the lease and the sensor of a kept run agree on; times in seconds.

    Args:
        name: of the run's heartbeat and of its files under ``run/``.
        job: the name of its Dagster job.
        label: its name for people, such as ``drain``.
        folder: where its heartbeat and its lease are.
        log: the file that it logs to.
        work_s: after so long it is due: it hands over to a successor as soon as one waits.
        beat_interval_s: it writes a heartbeat this often.
        dead_after_s: without a heartbeat for so long, and its process gone: dead.
        hung_after_s: without progress for so long, though it does not wait: hung.
    """

    name: str
    job: str
    label: str
    folder: Path
    log: Path
    work_s: float
    beat_interval_s: float
    dead_after_s: float
    hung_after_s: float

    @property
    def store(self) -> Path:
        return self.folder / f"{self.name}.db"

    @property
    def successor(self) -> "KeptRun":
        """The one that waits for this one to hand over: a heartbeat and a lease of its own."""
        return replace(self, name=f"{self.name}.next")


def kept_runs(settings: Settings) -> list[KeptRun]:
    """Return the kept runs of a platform with these settings."""
    return [kept_drain(settings), *([kept_refine(settings)] if settings.refine.enabled else [])]


def kept_drain(settings: Settings) -> KeptRun:
    """Return the drain that the settings name."""
    name = settings.drain.name
    return _kept(settings, name, f"{name}_drain", "drain", settings.drain.work_minutes)


def kept_refine(settings: Settings) -> KeptRun:
    """Return the run that brings gold up to silver; the rebuild of a large day may take it long."""
    made = _kept(settings, "refine", "gold_refine", "refine", settings.refine.work_minutes)
    return replace(made, hung_after_s=made.hung_after_s * _LONG_DAYS)


def _kept(settings: Settings, name: str, job: str, label: str, work_minutes: float) -> KeptRun:
    limits = settings.drain
    return KeptRun(
        name=name,
        job=job,
        label=label,
        folder=settings.home / "run",
        log=settings.home / "logs" / f"{label}.log",
        work_s=work_minutes * 60,
        beat_interval_s=limits.beat_interval_s,
        dead_after_s=limits.dead_after_s,
        hung_after_s=limits.hung_after_s,
    )

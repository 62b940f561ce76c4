"""Where trades come from: the venues, the simulator's random market, or recordings that the simulator plays."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Kind = Literal["live", "simulator", "recording"]


@dataclass(frozen=True)
class Source:
    """The arguments of ``k2 up``. ``speed`` is a factor of the recording's own timing, or ``max``."""

    kind: Kind = "live"
    files: tuple[str, ...] = ()
    speed: str | None = None
    rate: float | None = None

    def __str__(self) -> str:
        """Return it as a user writes it after ``--source``."""
        return " ".join((self.kind, *(Path(file).name for file in self.files)))

    @property
    def simulated(self) -> bool:
        """Whether the simulator takes the place of the venues."""
        return self.kind != "live"

    def simulator_arguments(self) -> list[str]:
        """Return the arguments of ``k2 feed simulate``."""
        arguments = [argument for file in self.files for argument in ("--recording", absolute(file))]
        if self.speed is not None:
            arguments += ["--speed", self.speed]
        if self.rate is not None:
            arguments += ["--rate", str(self.rate)]
        return arguments


def absolute(file: str) -> str:
    """Make the path in ``FILE`` or ``VENUE=FILE`` absolute, since parts run in a folder of their own.

    >>> absolute("binance=/data/x.jsonl.gz")
    'binance=/data/x.jsonl.gz'
    """
    # A path may contain "=" itself: a file of the whole name comes first.
    venue, sign, path = file.rpartition("=")
    if sign and not Path(file).exists():
        return f"{venue}={Path(path).absolute()}"
    return str(Path(file).absolute())


def path_of(file: str) -> Path:
    """Return the path in ``FILE`` or ``VENUE=FILE``."""
    return Path(file) if Path(file).exists() else Path(file.rpartition("=")[2])

"""What a refresh took in of a day, and what gold remembers after it, whichever state of the table it commits to."""

from dataclasses import dataclass
from datetime import date

from pyiceberg.table import Table

from k2_assets.gold.deduplicate import Kind
from k2_assets.gold.epoch_search import Found
from k2_assets.gold.instrument_memory import Memory, name
from k2_assets.lake.rebuilt_days import Taken
from k2_assets.lake.source_files import Seen, paths_between
from k2_core.lake.manifests import LakeFile


@dataclass(frozen=True)
class TakenIn:
    """What a refresh took in.

    Args:
        day: whose rows were refreshed.
        files: of each source.
        epochs: the register that it read; None for quotes, and in a lake from before there was one.
        found: what its search for epochs found.
        rows: what is remembered of the new rows.
        whole: whether the whole day was rebuilt, and so the marks of its sources were taken in, too.
    """

    day: date
    files: list[tuple[Table, list[LakeFile]]]
    epochs: Table | None
    found: Found
    rows: Memory
    whole: bool = False

    def remembered(self, gold: Table, kind: Kind) -> dict[str, str]:
        """Return the properties of ``gold`` with this taken in."""
        seen, taken = Seen.of(gold), Taken.of(gold)
        for source, files in self.files:
            seen, taken = seen.with_files(source, files), taken.with_day(source, self.day)
        if self.epochs is not None:
            taken = taken.with_day(self.epochs, self.day)
        memory = Memory.of(gold).with_found(self.found.largest, self.found.odd).with_more(self.rows)
        return seen.to_properties() | memory.to_properties(kind) | (taken.to_properties() if self.whole else {})

    def rests_on(self, gold: Table, read: tuple[int, int]) -> tuple[object, ...]:
        """Return what the rows depend on in gold itself: while a newer state has the same, they are right in it, too.

        Args:
            gold: in any state.
            read: from which time on and until which gold was read to make them, in µs.
        """
        memory = Memory.of(gold)
        names = sorted(name(*key) for key in self.found.by_memory)
        return (
            paths_between(gold, "timestamp", *read),
            (Seen.of(gold).of_day(self.day), Taken.of(gold).of_day(self.day)),
            [(memory.largest.get(each), memory.newest.get(each)) for each in names],
            memory.odd,
        )

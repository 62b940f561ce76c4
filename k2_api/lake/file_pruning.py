"""Which files hold the first rows of an answer, proven by what each file is known to hold. Pure."""

import heapq
from collections.abc import Callable, Iterator, Sequence

from k2_api.lake.file_groups import Groups
from k2_api.lake.file_index import Filter
from k2_core.lake.manifests import LakeFile

Walk = Callable[[Sequence[LakeFile]], Iterator[tuple[LakeFile, Groups]]]


def surely_first(
    candidates: Sequence[LakeFile], walk: Walk, where: Filter, rows: int, *, newest: bool
) -> list[LakeFile]:
    """Return files that hold the first ``rows`` rows asked for, newest or oldest first.

    Files are taken in order of their near end. Once ``rows`` rows are known to lie before the near end of the next
    file, no later file can hold any of them.
    """
    # Newest first, times are negated: then "near" and "before" mean the same in both directions.
    near = {file.path: -file.last_us if newest else file.first_us for file in candidates}
    ordered = sorted(candidates, key=lambda file: near[file.path])
    edges: list[int | None] = [*(near[file.path] for file in ordered[1:]), None]
    chosen: list[LakeFile] = []
    waiting: list[tuple[int, int]] = []
    proven = 0
    for (file, groups), edge in zip(walk(ordered), edges, strict=False):
        fitting = [group for group in groups if group.fits(where)]
        if fitting:
            chosen.append(file)
        # All rows of a group count, as soon as its far end, and so each of them, lies before the edge. A group that
        # reaches an end of the time range may have an unknown number of rows inside it, and counts as none. Rows at the
        # edge itself prove nothing: the next file may have others at that time, which sort before them.
        for group in fitting:
            if group.first_us > where.start_us and group.last_us < where.end_us - 1:
                heapq.heappush(waiting, (-group.first_us if newest else group.last_us, group.rows))
        while edge is not None and waiting and waiting[0][0] < edge:
            proven += heapq.heappop(waiting)[1]
        if proven >= rows:
            break
    return chosen

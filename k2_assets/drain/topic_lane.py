"""One topic's way from Kafka into its tables: read messages, decode them to rows, commit while reading on."""

import statistics
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

from k2_assets.kafka.schema_lookup import SchemaLookup
from k2_assets.kafka.topic_reader import READ_MESSAGES, KafkaReader, Messages
from k2_assets.topic_tables.drained_tables import Batch, DrainedTables, Rows
from k2_core import clock
from k2_core.offsets import Offsets

_DECODE_MESSAGES: Final = 20_000
# A commit takes several times the memory of its messages; half a million of the largest would be too much.
_DECODE_BYTES: Final = 16_000_000
_COMMIT_BYTES: Final = 128_000_000
_FIRST_COMMIT_S: Final = 1.0  # after the start: what came while nobody drained has waited
_RECENT_COMMITS: Final = 20
_SLOW_TIMES: Final = 5


@dataclass(frozen=True)
class Committed:
    """A batch that is stored in all its tables, and how long its commits took."""

    batch: Batch
    seconds: float


class Lane:
    """Drains one topic. For one thread; it runs its commits in another.

    Messages go through three places: those that wait to be decoded, the rows that wait for a commit, and one batch that
    is being committed. A second batch is handed over only when the first is stored.

    ``read`` counts the messages read since :meth:`start`, ``rows`` those of them that were not yet handed to a commit.
    While ``behind``, the last read brought as many messages as one can, so that Kafka has more.
    """

    def __init__(
        self,
        layers: DrainedTables,
        reader: KafkaReader,
        schemas: SchemaLookup,
        commit_rows: int,
        commit_interval_s: float,
        *,
        quiet_interval_s: float = 0.0,
        phase: float = 0.0,
    ) -> None:
        """Read nothing yet: see :meth:`start`.

        Args:
            layers: the tables that are filled.
            reader: of the topic.
            schemas: by which its messages are read.
            commit_rows: messages that make a batch full.
            commit_interval_s: between two commits. All lanes commit at its multiples, so that refine finds the rows of
                several at once.
            quiet_interval_s: the same where only control frames came.
            phase: the part of the interval by which this lane commits later.
        """
        self.layers = layers
        self.reader = reader
        self._schemas = schemas
        self._commit_rows = commit_rows
        self._commit_interval_s = commit_interval_s
        self._quiet_interval_s = quiet_interval_s
        self._phase_s = phase * commit_interval_s
        self._committer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="commit")
        self._in_flight: Future[Committed] | None = None
        self._handed_over_at = 0.0
        self._recent_s: deque[float] = deque(maxlen=_RECENT_COMMITS)
        self._clear()

    def start(self, progress: Callable[[str], None] = lambda _: None) -> None:
        """Go on from the committed offsets; what was read and not committed is read again.

        Args:
            progress: is called with each piece of a catch-up, which may take long and must not look as if it hung.
        """
        self._settle_quietly()
        self._clear()
        self.layers.reload()
        self.layers.catch_up(self._schemas, progress)
        self._tip = self.layers.vector("bronze")
        self.reader.seek(self._tip)
        self._due_at = clock.monotonic() + min(_FIRST_COMMIT_S, self._commit_interval_s)

    def step(self, timeout_s: float, share: float = 1.0) -> list[Committed]:
        """Read for at most ``timeout_s`` and commit what is due; return the batches stored since the last call.

        Args:
            timeout_s: 0 takes what has arrived already.
            share: of a full batch, at which this lane commits before it is due; others fill theirs beside it.

        Raises:
            CommitConflict, RegistryError, OSError and the database's errors: call :meth:`start` again.
        """
        messages = self.reader.read(timeout_s)
        size = sum(map(len, messages.values))
        self._waiting.absorb(messages)
        self._waiting_bytes += size
        self.rows += len(messages)
        self._bytes += size
        self.read += len(messages)
        self.behind = len(messages) >= READ_MESSAGES
        settled = self._settle(wait=False)
        if len(self._waiting) >= _DECODE_MESSAGES or self._waiting_bytes >= _DECODE_BYTES:
            settled += self._decode()
        # A full batch is handed over even if that has to wait for the one before; one that is due is not. One of
        # control frames alone, such as heartbeats, waits for the longer interval.
        due = clock.monotonic() >= self._due_at
        full = max(self.rows / self._commit_rows, self._bytes / _COMMIT_BYTES, self._fullness) >= share
        if full or (due and self._in_flight is None):
            settled += self._decode()
            has_data = any(rows.control_frames < rows.messages for rows in self._decoded)
            if full or has_data or clock.monotonic() >= self._quiet_until:
                settled += self._start_commit()
            else:
                self._due_at = self._next_due()
        return settled

    def hand_over(self) -> list[Committed]:
        """Start the last commit, of everything read so far; return the batches stored since the last call."""
        return self._decode() + self._start_commit(last=True)

    def finish(self) -> list[Committed]:
        """Commit what was read, in all tables, and wait for it."""
        settled = self.hand_over() + self._settle(wait=True)
        self.layers.commit_left()
        return settled

    def close(self) -> None:
        """Wait for the commit that was started, and close the consumer."""
        self._settle_quietly()
        self._committer.shutdown(wait=True)
        self.reader.close()

    @property
    def committing_s(self) -> float:
        """Seconds since the current commit was started; 0 when there is none."""
        return 0.0 if self._in_flight is None else clock.monotonic() - self._handed_over_at

    @property
    def commits_slowly(self) -> bool:
        """Whether the current commit takes much longer than the recent ones, and so long that the next one is due."""
        if not self._recent_s:
            return False
        return self.committing_s > max(self._commit_interval_s, _SLOW_TIMES * statistics.median(self._recent_s))

    @property
    def _fullness(self) -> float:
        # The part of a full batch that the decoded rows are: one frame may hold half a million trades.
        return max(self._made_rows / self._commit_rows, self._made_bytes / _COMMIT_BYTES)

    def _clear(self) -> None:
        self._tip = Offsets()
        self._waiting = Messages()
        self._decoded: list[Rows] = []
        self._following = Offsets()
        self.rows = 0
        self._bytes = 0
        self._waiting_bytes = 0
        self._decoded_bytes = 0
        self._made_bytes = 0
        self._made_rows = 0
        self.read = 0
        self.behind = False
        self._due_at = 0.0
        self._quiet_until = 0.0

    def _decode(self) -> list[Committed]:
        """Decode what was read; where it becomes too many rows for one commit, hand them over between."""
        messages, self._waiting, self._waiting_bytes = self._waiting, Messages(), 0
        topic, settled, first = self.reader.topic, [], 0
        for rows in self.layers.rows_of(messages, topic, self._schemas):
            read = messages.part(first, first + rows.messages)
            first += rows.messages
            self._decoded.append(rows)
            self._decoded_bytes += sum(map(len, read.values))
            # What is made of the messages; bronze's rows take what the messages do.
            self._made_bytes += sum(table.nbytes for layer, table in rows.by_layer.items() if layer != "bronze")
            self._made_rows += max(table.num_rows for table in rows.by_layer.values())
            self._following = self._following.advanced(read.following(topic.topic_id))
            if self._fullness >= 1 and first < len(messages):
                settled += self._start_commit()
        return settled

    def _start_commit(self, *, last: bool = False) -> list[Committed]:
        """Start the commit of all decoded rows, in the other thread, once the commit before has ended."""
        settled = self._settle(wait=True)
        self._due_at = self._next_due()
        if not self._decoded:
            self.layers.commit_left(overdue=not last)
            return settled
        self._quiet_until = clock.monotonic() + self._quiet_interval_s
        # The next batch begins where this one ends, as if it were stored already. Should its commit fail, the lane
        # starts again from the committed offsets.
        batch = Batch(self._tip, self._following, Rows.joined(self._decoded))
        self._tip = self._tip.advanced(self._following)
        self.rows -= batch.rows.messages
        self._bytes -= self._decoded_bytes
        self._decoded, self._following, self._decoded_bytes = [], Offsets(), 0
        self._made_bytes = self._made_rows = 0
        self._handed_over_at = clock.monotonic()
        self._in_flight = self._committer.submit(self._commit, batch, last)
        return settled

    def _next_due(self) -> float:
        # The next multiple of the interval, later by this lane's phase.
        passed = (clock.monotonic() - self._phase_s) // self._commit_interval_s
        return (passed + 1) * self._commit_interval_s + self._phase_s

    def _commit(self, batch: Batch, last: bool) -> Committed:
        began = clock.monotonic()
        self.reader.require_same_topic()  # after the last message of the batch was read
        committed = self.layers.commit(batch)
        if last:
            self.layers.commit_left()
        return Committed(committed, clock.monotonic() - began)

    def _settle(self, *, wait: bool) -> list[Committed]:
        if self._in_flight is None or not (wait or self._in_flight.done()):
            return []
        future, self._in_flight = self._in_flight, None
        committed = future.result()
        self._recent_s.append(committed.seconds)
        self.reader.show_progress(committed.batch.following)
        return [committed]

    def _settle_quietly(self) -> None:
        # Whether the commit succeeded is read from the tables afterwards.
        if self._in_flight is not None:
            self._in_flight.exception()
            self._in_flight = None

"""What waits beyond committed offsets, by the bounds that Kafka names."""

import pytest

from k2_assets.kafka import topic_bounds
from k2_assets.kafka.kafka_topic import Topic
from k2_core.offsets import Offsets

TOPIC = Topic("market.crypto.trades.binance.raw", "uuid", (0,))


@pytest.mark.parametrize(
    ("committed", "low", "high", "waiting"),
    [
        (None, 3, 8, {0: (3, 5)}),
        (0, 0, 8, {0: (0, 8)}),
        (5, 3, 8, {0: (5, 3)}),
        (8, 3, 8, {}),
        (5, 7, 9, {0: (7, 2)}),  # cut: what was lost does not wait
        (5, 9, 9, {}),  # cut to empty: there is nothing to read
        (12, 3, 8, {}),
    ],
)
def test_what_kafka_still_holds_beyond_the_vector_waits(
    committed: int | None, low: int, high: int, waiting: dict[int, tuple[int, int]]
) -> None:
    vector = Offsets({} if committed is None else {("uuid", 0): committed})

    assert topic_bounds.waiting(TOPIC, vector, {0: (low, high)}) == waiting

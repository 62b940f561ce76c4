from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from k2_feeds.kafka.partitioner import BUSIEST, partition_of


@given(st.text(st.characters(exclude_categories=["Cs"])), st.integers(1, 100))
def test_partition_exists(symbol: str, partitions: int) -> None:
    assert 0 <= partition_of(symbol, partitions) < partitions


def test_busiest_markets_are_dealt_out_evenly() -> None:
    counts = Counter(partition_of(symbol, 4) for symbol in BUSIEST)

    assert counts == {0: 4, 1: 4, 2: 4, 3: 4}


def test_partition_of_known_symbols_never_changes() -> None:
    symbols = ("BTCUSDT", "ETHUSDT", "BNBUSDT", "SOLUSDT", "PEPEUSDT", "SHIBUSDT", "")

    assert [partition_of(symbol, 4) for symbol in symbols] == [0, 1, 2, 3, 2, 2, 0]

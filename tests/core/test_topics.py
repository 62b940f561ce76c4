import pytest

from k2_core import topics


@pytest.mark.parametrize("bad", ["Trades", "trades.x", ""])
def test_raw_topic_refuses_what_is_no_name_of_a_venue(bad: str) -> None:
    assert topics.raw_topic("crypto", "trades", "binance") == "market.crypto.trades.binance.raw"
    with pytest.raises(ValueError, match="is not a topic of raw frames"):
        topics.raw_topic("crypto", "trades", bad)


def test_topics_keep_replayed_recordings_by_the_brokers_time() -> None:
    assert topics.topic_settings(7)["message.timestamp.type"] == "LogAppendTime"
    assert topics.topic_settings(7)["retention.ms"] == str(7 * 24 * 3600 * 1000)

import json

import pytest

from k2_feeds.simulator.requests import Refused, Subscriptions


def ask(subscriptions: Subscriptions, **request: object) -> object:
    return json.loads(subscriptions.answer(json.dumps(request)))


def test_subscribe_is_answered_by_null() -> None:
    streams = Subscriptions("/stream")

    assert streams.answer(b'{"method":"SUBSCRIBE","params":["btcusdt@trade"],"id":1}') == b'{"result":null,"id":1}'
    assert ask(streams, method="LIST_SUBSCRIPTIONS", id=2) == {"result": ["btcusdt@trade"], "id": 2}


def test_unsubscribe_ends_a_stream() -> None:
    streams = Subscriptions("/stream?streams=btcusdt@trade/ethusdt@trade")
    ask(streams, method="UNSUBSCRIBE", params=["btcusdt@trade"], id="a")

    assert ask(streams, method="LIST_SUBSCRIPTIONS", id=None) == {"result": ["ethusdt@trade"], "id": None}


def test_paths_choose_streams_and_wrapping() -> None:
    raw = Subscriptions("/ws/btcusdt@trade")

    assert (list(raw.streams), raw.combined) == (["btcusdt@trade"], False)
    assert Subscriptions("/stream").combined
    assert list(Subscriptions("/ws").streams) == []


def test_properties_are_set_and_reported() -> None:
    streams = Subscriptions("/ws")
    ask(streams, method="SET_PROPERTY", params=["combined", True], id=1)

    assert ask(streams, method="GET_PROPERTY", params=["combined"], id=2) == {"result": True, "id": 2}


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (b"not json", 3),
        (b"[]", 2),
        (b'{"id":1}', 2),
        (b'{"method":"SUBSCRIBE","params":["btcusdt@trade"]}', 2),
        (b'{"method":"SUBSCRIBE","params":["btcusdt@trade"],"id":1.5}', 2),
        (b'{"method":"BUY","id":1}', 2),
        (b'{"method":"SUBSCRIBE","params":"btcusdt@trade","id":1}', 2),
        (b'{"method":"SUBSCRIBE","params":["BTCUSDT@trade"],"id":1}', 2),
        (b'{"method":"SUBSCRIBE","params":["btcusdt"],"id":1}', 2),
        (b'{"method":"SET_PROPERTY","params":["combined","yes"],"id":1}', 1),
        (b'{"method":"GET_PROPERTY","params":["colour"],"id":1}', 0),
    ],
)
def test_bad_requests_are_answered_by_an_error(message: bytes, code: int) -> None:
    streams = Subscriptions("/stream")

    assert json.loads(streams.answer(message))["error"]["code"] == code
    assert list(streams.streams) == []


def test_more_streams_than_a_connection_may_carry_are_refused() -> None:
    streams = Subscriptions("/stream")
    names = [f"coin{n}usdt@trade" for n in range(1025)]

    assert "error" in json.loads(streams.answer(json.dumps({"method": "SUBSCRIBE", "params": names, "id": 1})))


def test_a_url_with_a_bad_stream_is_refused() -> None:
    with pytest.raises(Refused):
        Subscriptions("/stream?streams=BTC")

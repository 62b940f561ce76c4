from pathlib import Path

import pytest
from pydantic import ValidationError

from k2_core import settings
from k2_core.errors import SettingsError
from k2_core.settings import Settings, load_settings


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in settings.child_environment():
        if name.startswith("K2_"):
            monkeypatch.delenv(name)


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("K2_PORTS__API", "http", "K2_PORTS__API cannot be used: "),
        ("K2_PORTS__API", "70000", "less than or equal to 65535"),
        ("K2_PORTS__API", "9092", "ports kafka and api are both 9092"),
        ("K2_PORTS__APPI", "8000", "K2_PORTS__APPI cannot be used: Extra inputs are not permitted"),
        ("K2_HOMME", "/tmp", "K2_HOMME is not a setting of K2"),  # noqa: S108
        (
            "K2_FEEDS__BINANCE__SYMBOLS",
            "BTCUSDT",
            'SYMBOLS cannot be used: it must be a JSON list, such as ["BTCUSDT"].',
        ),
        (
            "K2_FEEDS__VENUES",
            "binance",
            'K2_FEEDS__VENUES cannot be used: it must be a JSON list, such as ["binance"].',
        ),
        ("K2_FEEDS__VENUES", '"binance"', "K2_FEEDS__VENUES cannot be used: it must be a JSON list"),
        ("K2_SIMULATOR__SYMBOLS", "BTCUSDT", 'it must be a JSON list, such as ["BTCUSDT"].'),
        ("K2_CATALOG__PROPERTIES", "s3", "K2_CATALOG__PROPERTIES cannot be used: it must be a JSON map"),
        ("K2_FEEDS", "binance", "K2_FEEDS cannot be used: it must be a JSON map"),
        (
            "K2_FEEDS__KRAKEN__URL",
            "ws://[bad",
            "K2_FEEDS__KRAKEN__URL cannot be used: ws://[bad is not a WebSocket URL",
        ),
        ("K2_FEEDS__BINANCE__URL", "wss://venue:99999", "BINANCE__URL cannot be used: wss://venue:99999 is not a Web"),
        ("K2_FEEDS__BINANCE__URL", "wss://venue:port", "is not a WebSocket URL"),
        ("K2_FEEDS__BINANCE__URL", f"wss://{'a' * 64}.com", "is not a WebSocket URL"),
        ("K2_FEEDS__BINANCE__URL", "https://venue", "is not a WebSocket URL"),
        ("K2_FEEDS__COINBASE__URL", "wss://venue/#x", "is not a WebSocket URL"),
        ("K2_SIMULATOR__SEED", "-1", "K2_SIMULATOR__SEED cannot be used: "),
        ("K2_DRAIN__COMMIT_ROWS", "0", "K2_DRAIN__COMMIT_ROWS cannot be used: "),
        ("K2_API__HOST", "0.0.0.0", "the development key is refused on 0.0.0.0"),  # noqa: S104
    ],
)
def test_a_value_that_cannot_be_used_is_one_sentence_that_names_it(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, says: str
) -> None:
    monkeypatch.setenv(name, value)

    with pytest.raises(SettingsError) as raised:
        load_settings()

    sentence = str(raised.value)
    assert says in sentence
    assert sentence.endswith(".")
    assert "\n" not in sentence


def test_a_rest_url_that_cannot_be_one_leaves_the_settings_of_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("K2_FEEDS__KRAKEN__REST_URL", "http://[bad")

    assert load_settings().feeds.kraken.rest_url == "http://[bad"


def test_a_secret_is_not_shown_when_a_value_cannot_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("K2_API__KEY", "very-secret")
    monkeypatch.setenv("K2_API__HOST", "")
    monkeypatch.setenv("K2_API__QUERY_TIMEOUT_S", "-1")

    with pytest.raises(SettingsError) as raised:
        load_settings()

    assert "very-secret" not in str(raised.value)
    assert "very-secret" not in repr(Settings(api=settings.Api(key="very-secret")))  # type: ignore[arg-type]


def test_settings_are_read_from_the_environment_and_stay_as_they_are(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("K2_HOME", str(tmp_path))
    monkeypatch.setenv("K2_PORTS__KAFKA", "19092")
    monkeypatch.setenv("K2_FEEDS__BINANCE__SYMBOLS", '["SOLUSDT"]')
    loaded = load_settings()

    assert loaded.bootstrap_servers == "127.0.0.1:19092"
    assert loaded.feeds.binance.symbols == ("SOLUSDT",)
    assert loaded.catalog_uri.startswith(f"sqlite:///{tmp_path}/")
    assert loaded.warehouse == f"file://{tmp_path}/warehouse"
    with pytest.raises(ValidationError, match="frozen"):
        loaded.home = Path("/elsewhere")  # type: ignore[misc]
    with pytest.raises(ValidationError, match="frozen"):
        loaded.ports.api = 1  # type: ignore[misc]


def test_home_is_absolute_so_that_children_agree_on_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)

    assert Settings(home=Path("data")).home == tmp_path / "data"


def test_your_own_parts_go_before_those_that_k2_runs() -> None:
    own = Settings.model_validate(
        {
            "kafka": {"bootstrap_servers": "kafka:9092"},
            "registry": {"url": "http://registry"},
            "catalog": {"uri": "postgresql+psycopg2://lake", "warehouse": "s3://lake"},
        }
    )

    assert (own.bootstrap_servers, own.registry_url) == ("kafka:9092", "http://registry")
    assert (own.catalog_uri, own.warehouse) == ("postgresql+psycopg2://lake", "s3://lake")


def test_a_child_gets_our_environment_and_what_is_set_on_top(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("K2_HOME", "/one")

    assert settings.child_environment(K2_HOME="/two")["K2_HOME"] == "/two"
    assert settings.child_environment()["K2_HOME"] == "/one"


def test_downloads_are_cached_where_the_user_keeps_caches(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert settings.cache_folder() == tmp_path / "k2"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert settings.cache_folder() == tmp_path / ".cache" / "k2"

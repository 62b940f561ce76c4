import csv
import io
import json
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.testclient import TestClient

from k2_api.formats.formats import MEDIA_TYPES, Format, written
from tests.api.lakes import Lake, trades_from

TEXTS = st.one_of(st.none(), st.text(max_size=12), st.sampled_from(['"', "\\", "\n", "=1+1", "\x00", "é", "\u2028"]))
SCHEMA = pa.schema(
    {
        "name": pa.string(),
        "price": pa.decimal128(28, 12),
        "count": pa.int64(),
        "flag": pa.bool_(),
        "list": pa.list_(pa.string()),
        "map": pa.map_(pa.string(), pa.string()),
    }
)
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "name": TEXTS,
            "price": st.one_of(st.none(), st.decimals("-9999999999999999", "9999999999999999", places=12)),
            "count": st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1)),
            "flag": st.one_of(st.none(), st.booleans()),
            "list": st.one_of(st.none(), st.lists(TEXTS, max_size=3)),
            "map": st.one_of(st.none(), st.dictionaries(st.text(max_size=3), TEXTS, max_size=3)),
        }
    ),
    max_size=8,
)


def as_written(form: Format, rows: pa.Table, size: int = 3) -> bytes:
    return b"".join(written(form, rows.schema, iter(rows.to_batches(max_chunksize=size))))


def without_zeros(value: Decimal | None) -> str | None:
    if value is None:
        return None
    text = f"{value:.12f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


@given(ROWS)
def test_json_is_what_the_rows_say(rows: list[dict[str, Any]]) -> None:
    pairs = [row | {"map": None if row["map"] is None else list(row["map"].items())} for row in rows]
    table = pa.Table.from_pylist(pairs, schema=SCHEMA)
    expected = [row | {"price": without_zeros(row["price"])} for row in rows]

    assert json.loads(b"[" + as_written(Format.JSON, table) + b"]") == expected
    assert [json.loads(line) for line in as_written(Format.NDJSON, table).decode().split("\n")[:-1]] == expected
    for form in (Format.PARQUET, Format.ARROW):
        assert read_back(form, as_written(form, table)).equals(table)


def test_csv_escapes_what_a_spreadsheet_would_run() -> None:
    names = ["=1+1", "+1", "-1", "@a", "\tx", 'say "hi", all', None, "plain"]
    table = pa.table({"name": pa.array(names), "price": pa.array([Decimal(-1)] * 8, pa.decimal128(28, 12))})
    header, *rows = csv.reader(io.StringIO(as_written(Format.CSV, table).decode()))

    assert header == ["name", "price"]
    assert [row[0] for row in rows] == ["'=1+1", "'+1", "'-1", "'@a", "'\tx", 'say "hi", all', "", "plain"]
    assert {row[1] for row in rows} == {"-1"}


@pytest.mark.parametrize("form", list(Format))
def test_no_rows_keep_header_or_schema(form: Format) -> None:
    found = as_written(form, SCHEMA.empty_table())

    if form in {Format.PARQUET, Format.ARROW}:
        assert read_back(form, found).schema == SCHEMA
    else:
        assert found == (b"name,price,count,flag,list,map\n" if form is Format.CSV else b"")


def read_back(form: Format, body: bytes) -> pa.Table:
    return pq.read_table(io.BytesIO(body)) if form is Format.PARQUET else pa.ipc.open_stream(body).read_all()


def numbers(form: Format, body: bytes) -> list[str]:
    """The trade ids of an answer in any form."""
    if form is Format.JSON:
        return [row["trade_id"] for row in json.loads(body)["data"]]
    if form is Format.NDJSON:
        return [json.loads(line)["trade_id"] for line in body.decode().splitlines()]
    if form is Format.CSV:
        return [row["trade_id"] for row in csv.DictReader(io.StringIO(body.decode()))]
    found: list[str] = read_back(form, body)["trade_id"].to_pylist()
    return found


@pytest.mark.parametrize("form", list(Format))
def test_every_form_carries_the_same_rows(lake: Lake, client: TestClient, form: Format) -> None:
    lake.add(trades_from(1, 20))
    by_parameter = client.get("/v1/trades", params={"format": form.value, "limit": 7})
    by_header = client.get("/v1/trades", params={"limit": 7}, headers={"Accept": f"{MEDIA_TYPES[form]}, */*;q=0.1"})

    assert by_parameter.headers["Content-Type"].partition(";")[0] == MEDIA_TYPES[form]
    assert (
        numbers(form, by_parameter.content) == numbers(form, by_header.content) == [str(n) for n in range(20, 13, -1)]
    )
    if form is not Format.JSON:
        assert by_parameter.headers["X-Record-Count"] == "7"
        assert by_parameter.headers["Content-Disposition"] == f'attachment; filename="trades.{form}"'
        rest = {"cursor": by_parameter.headers["X-Next-Cursor"], "format": form.value, "limit": 100}
        assert numbers(form, client.get("/v1/trades", params=rest).content) == [str(n) for n in range(13, 0, -1)]

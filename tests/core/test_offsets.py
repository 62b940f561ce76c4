from hypothesis import given
from hypothesis import strategies as st

from k2_core.offsets import PROPERTY, Offsets

KEYS = st.tuples(st.sampled_from(["topic-a", "topic-b", "topic-c"]), st.integers(0, 12))
VECTORS = st.dictionaries(KEYS, st.integers(0, 1 << 62)).map(Offsets)


@given(VECTORS)
def test_offsets_survive_their_properties(vector: Offsets) -> None:
    assert Offsets.from_properties({"other": "x", **vector.to_properties()}) == vector
    assert set(vector.to_properties()) == {PROPERTY}


@given(VECTORS, VECTORS)
def test_offsets_advance_only_the_partitions_that_moved(before: Offsets, moved: Offsets) -> None:
    after = before.advanced(moved)
    keys = {key for key, _ in moved.items()}

    assert after.only(keys) == moved
    assert after.only({key for key, _ in before.items()} - keys) == before.only(
        {key for key, _ in before.items()} - keys
    )


def test_offsets_of_a_table_without_a_vector_are_empty() -> None:
    assert not Offsets.from_properties({})
    assert Offsets.from_properties({}).get("topic", 0) is None


def test_offsets_of_a_topic_made_again_are_kept_beside_the_old_ones() -> None:
    vector = Offsets({("old", 0): 9}).advanced(Offsets({("new", 0): 1}))

    assert (vector.get("old", 0), vector.get("new", 0)) == (9, 1)

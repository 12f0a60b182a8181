"""Any array under any permitted name comes back from disk as it was, in the same bytes."""

from __future__ import annotations

import h5py
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from nanophantom.simcore.store import arrays

NAMES = st.from_regex(r"[A-Za-z][A-Za-z0-9_-]{0,12}", fullmatch=True)
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=6)
NUMBERS = st.one_of(
    hnp.boolean_dtypes(),
    hnp.integer_dtypes(),
    hnp.unsigned_integer_dtypes(),
    hnp.floating_dtypes(sizes=(16, 32, 64)),
    hnp.complex_number_dtypes(sizes=(64, 128)),
)


def numbers(min_dims=0, min_side=0):
    shapes = hnp.array_shapes(min_dims=min_dims, max_dims=4, min_side=min_side, max_side=5)
    return NUMBERS.flatmap(lambda dtype: hnp.arrays(dtype, shapes))


def words():
    shapes = hnp.array_shapes(min_dims=0, max_dims=2, min_side=0, max_side=4)
    text = shapes.flatmap(lambda shape: hnp.arrays("U6", shape, elements=TEXT))
    return st.one_of(text, shapes.flatmap(lambda shape: hnp.arrays("S4", shape)))


def read_from(image, read):
    with h5py.File.in_memory(image) as file:
        return read(file)


@settings(max_examples=60, deadline=None)
@given(
    tables=st.dictionaries(
        NAMES, st.dictionaries(NAMES, st.one_of(numbers(), words()), max_size=3), max_size=2
    )
)
def test_tables_round_trip(tables):
    """Type, shape and every value, NaN and infinity included; the columns keep their order."""
    image = arrays.file_image(lambda file: arrays.write_tables(file, tables))
    assert image == arrays.file_image(lambda file: arrays.write_tables(file, tables))
    read = read_from(image, lambda file: {name: arrays.read_table(file[name]) for name in file})
    assert list(read) == sorted(tables)
    for table, columns in tables.items():
        assert list(read[table]) == list(columns)
        for name, values in columns.items():
            found = read[table][name]
            assert found.shape == values.shape
            assert found.dtype.kind == values.dtype.kind
            # The order of bytes is this machine's; text is as wide as it needs to be.
            native = values.dtype.newbyteorder("=")
            assert found.dtype == native or values.dtype.kind in "US"
            np.testing.assert_array_equal(found, values)


@settings(max_examples=150, deadline=None)
@given(name=NAMES, stack=numbers(min_dims=1, min_side=1), data=st.data())
def test_any_range_of_a_stack_round_trips(name, stack, data):
    """Chunks and filters change nothing, and the recorded sum is that of what is read."""
    start = data.draw(st.integers(0, len(stack)))
    stop = data.draw(st.integers(start, len(stack)))
    image = arrays.file_image(lambda file: arrays.write_stack(file, name, stack))
    found = read_from(image, lambda file: arrays.read(file[name], start, stop))
    assert found.dtype == stack.dtype.newbyteorder("=")
    np.testing.assert_array_equal(found, stack[start:stop])
    whole = read_from(image, lambda file: arrays.read(file[name]))
    with np.errstate(all="ignore"):  # overflow of huge numbers gives a sum of None
        assert arrays.total(whole) == arrays.total(stack)


@settings(max_examples=100, deadline=None)
@given(
    stack=hnp.arrays(
        st.one_of(hnp.integer_dtypes(), hnp.unsigned_integer_dtypes()), (3, 4), fill=st.nothing()
    )
)
def test_integer_sums_are_exact(stack):
    """Modulo 2^64, as Python's unbounded integers tell."""
    exact = sum(int(value) for value in stack.flat)
    assert (arrays.total(stack) - exact) % 2**64 == 0

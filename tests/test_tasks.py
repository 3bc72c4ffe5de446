import numpy as np
from hypothesis import given
from hypothesis import strategies as st

import xorjax as xj


def test_xor_is_the_table_of_the_tutorial():
    x, y = xj.xor()
    np.testing.assert_array_equal(x, [[0, 0], [0, 1], [1, 0], [1, 1]])
    np.testing.assert_array_equal(y, [[0], [1], [1], [0]])
    assert x.dtype == y.dtype == np.float32


@given(st.integers(1, 6).flatmap(lambda k: st.lists(st.booleans(), min_size=2**k, max_size=2**k)))
def test_row_i_of_a_truth_table_holds_the_bits_of_i_and_its_output(outputs):
    batch = xj.truth_table(outputs)
    n_bits = len(outputs).bit_length() - 1
    assert np.asarray(batch.x).shape == (len(outputs), n_bits)
    for i, (row, target) in enumerate(zip(batch.x, batch.y, strict=True)):
        assert int("".join(str(int(bit)) for bit in row), 2) == i
        assert target == [outputs[i]]


@given(st.integers(1, 10))
def test_parity_is_the_sum_of_the_bits_modulo_two(n_bits):
    x, y = xj.parity(n_bits)
    np.testing.assert_array_equal(np.sum(x, axis=1) % 2, y[:, 0])
    assert len(x) == 2**n_bits

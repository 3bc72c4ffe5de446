"""Boolean functions as data."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

import xorjax as xj


def test_xor_is_the_table_of_the_tutorial():
    x, y = xj.xor()
    np.testing.assert_array_equal(x, [[0, 0], [0, 1], [1, 0], [1, 1]])
    np.testing.assert_array_equal(y, [[0], [1], [1], [0]])
    assert x.dtype == y.dtype == np.float32
    for of_text, array in zip(xj.truth_table("0110"), xj.xor(), strict=True):
        np.testing.assert_array_equal(of_text, array)


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


@given(st.integers(1, 6), st.floats(0.001, 0.999), st.integers(0, 2**32 - 1))
def test_a_split_has_every_row_once(n_bits, share, seed):
    batch = xj.parity(n_bits)
    train, held_out = xj.tasks.split(batch, share, seed)
    n, n_out = len(batch.x), len(held_out.x)
    assert n_out == min(max(round(share * n), 1), n - 1)
    together = np.concatenate([np.hstack(train), np.hstack(held_out)])
    np.testing.assert_array_equal(together[np.lexsort(together.T[::-1])], np.hstack(batch))
    for part in (train, held_out):
        order = np.asarray(part.x) @ 2 ** np.arange(n_bits)[::-1]
        assert (np.diff(order) > 0).all()


def test_another_seed_splits_another_way():
    def held_out(seed):
        return np.asarray(xj.tasks.split(xj.parity(4), 0.5, seed)[1].x).tobytes()

    assert len({held_out(seed) for seed in range(20)}) > 15
    assert held_out(3) == held_out(3)

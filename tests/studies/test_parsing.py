"""Texts of a file or the command line become values."""

import numpy as np
import pytest

import xorjax as xj
from xorjax.studies.parsing import (
    find_optimizers,
    parse_integer,
    parse_seeds,
    parse_sizes,
    parse_task,
    parse_values,
)

TASKS = {
    "xor": xj.xor(),
    "parity:1": xj.parity(1),
    "parity:8": xj.parity(8),
    "01": xj.truth_table([0, 1]),
    "00010111": xj.truth_table([0, 0, 0, 1, 0, 1, 1, 1]),
}


@pytest.mark.parametrize("text", TASKS)
def test_a_task_is_xor_parity_or_a_truth_table(text):
    batch = parse_task("task", text)
    np.testing.assert_array_equal(batch.x, TASKS[text].x)
    np.testing.assert_array_equal(batch.y, TASKS[text].y)


def test_seeds_are_a_count_or_a_range():
    assert parse_seeds("seeds", "10000") == parse_seeds("seeds", 10_000) == range(10_000)
    assert parse_seeds("seeds", "1e4") == range(10_000)
    assert parse_seeds("seeds", "5:900") == range(5, 900)
    assert parse_seeds("seeds", "4294967295:4294967296") == range(2**32 - 1, 2**32)


@pytest.mark.parametrize("value", [100_000, "100000", "100_000", "1e5", 1e5, "100000.0"])
def test_an_integer_may_be_written_with_an_exponent(value):
    assert parse_integer("epochs", value, 1, 10**6) == 100_000


@pytest.mark.parametrize("value", ["many", 0.5, "0.5", "1e400", "nan", None, True, [1]])
def test_what_is_no_integer_is_refused_with_its_value(value):
    with pytest.raises(TypeError, match=r"epochs=.* must be an integer"):
        parse_integer("epochs", value, 1, 10**6)


VALUES = {
    "0.1": 0.1,
    "0.5,0.1": [0.5, 0.1],
    "0:0.9:10": [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9],
    "4:1:4": [4.0, 3.0, 2.0, 1.0],
    "-1e-3:1e-3:3": [-0.001, 0.0, 0.001],
}


@pytest.mark.parametrize("text", VALUES)
def test_values_are_a_number_a_list_or_evenly_spaced(text):
    assert parse_values("momentum", text) == VALUES[text]


def test_a_list_may_hold_texts_and_stays_a_list():
    assert parse_values("momentum", ["0.5,0.1", 0.3]) == [0.5, 0.1, 0.3]
    assert parse_values("momentum", ["0.5"]) == [0.5]
    with pytest.raises(ValueError, match=r"must hold each value once, in float32"):
        parse_values("momentum", ["0.5,0.1", "0.1"])


def test_a_range_ends_exactly_where_it_says():
    first, *_, last = np.array(parse_values("momentum", "0.12345678901234567:0.98765432109876543:4")).tolist()
    assert (first, last) == (0.12345678901234567, 0.98765432109876543)


def test_sizes_are_integers_or_lists_of_them():
    assert parse_sizes("sizes", ["3"], 1024) == [3]
    assert parse_sizes("sizes", ["2,3", "1024"], 1024) == [2, 3, 1024]


def test_the_optimizers_are_those_of_optax():
    names = set(find_optimizers())
    assert {"sgd", "adam", "lion", "adafactor", "lbfgs", "polyak_sgd", "contrib.prodigy"} <= names
    assert {"nadam", "nadamw"} <= names  # which are partial functions
    assert not {"clip", "scale_by_adam", "contrib.dpsgd", "noisy_sgd"} & names

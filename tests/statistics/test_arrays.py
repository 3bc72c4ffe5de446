"""Statistics of arrays against NumPy, formulas, and cases worked out by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import xorjax as xj
from xorjax.reports.published import TUTORIAL_RUNS
from xorjax.statistics import arrays, outcomes


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
@settings(max_examples=30)
def test_the_interval_is_wilsons(numbers):
    k, n = numbers
    p = arrays.proportion(np.arange(n) < k)
    z = 1.959963984540054
    center, spread = (k + z * z / 2) / (n + z * z), z / (n + z * z) * np.sqrt(k * (n - k) / n + z * z / 4)
    assert (p.number, p.total, p.share) == (k, n, k / n)
    np.testing.assert_allclose([p.low, p.high], [center - spread, center + spread], atol=1e-12)


def test_quantiles_count_nan_as_the_largest_loss():
    losses = np.array([0.1, np.nan, 0.2, np.inf, 0.3])
    np.testing.assert_array_equal(arrays.quantiles(losses, [0, 0.25, 0.6, 0.7]), [0.1, 0.2, 0.3, np.inf])
    finite = np.random.default_rng(0).random(101)
    at = [0, 0.05, 0.5, 0.99, 1]
    np.testing.assert_array_equal(arrays.quantiles(finite, at), np.quantile(finite, at, method="inverted_cdf"))
    hundred = np.arange(1.0, 101)
    np.testing.assert_array_equal(arrays.quantiles(hundred, (hundred / 100).tolist()), hundred)


def test_epochs_to_solve_are_of_all_members():
    solved_epoch = np.array([-1, 10, 20, 30])
    np.testing.assert_array_equal(
        arrays.epochs_to_solve(solved_epoch, [0, 0.5, 2 / 3, 0.75, 0.9]), [10, 20, 30, 30, np.inf]
    )


@pytest.mark.parametrize(
    ("outputs", "name", "pattern"),
    [
        ([0.05, 0.95, 0.94, 0.04], "at the targets", "0 1 1 0"),
        ([0.3, 0.7, 0.6, 0.2], "all right, short of the targets", "⅓ ⅔ ⅔ ⅓"),
        ([0.05, 0.49, 0.94, 0.51], "stuck at ½, the rest at the targets", "0 ½ 1 ½"),
        ([0.05, 0.67, 0.66, 0.65], "stuck at ⅔ or ⅓, the rest at the targets", "0 ⅔ ⅔ ⅔"),
        ([0.3, 0.34, 0.97, 0.35], "stuck at ⅔ or ⅓, the rest at the targets", "⅓ ⅓ 1 ⅓"),
        ([0.5, 0.51, 0.49, 0.5], "all at ½", "½ ½ ½ ½"),
        ([0.3, 0.7, 0.34, 0.3], "elsewhere", "⅓ ⅔ ⅓ ⅓"),
        ([0.05, 0.5, 0.94, 0.05], "elsewhere", "0 ½ 1 0"),
        ([0.95, 0.05, 0.05, 0.95], "elsewhere", "1 0 0 1"),
        ([np.nan, 0.5, 0.5, 0.5], "not a number", "0 ½ ½ ½"),
    ],
)
def test_outcome_classes(outputs, name, pattern):
    counted = outcomes.count_outcomes(np.array([outputs])[..., None], xj.xor().y)
    assert counted == [outcomes.OutcomeClass(name, 1, {pattern: 1})]


@given(st.lists(st.tuples(*[st.floats(0, 1)] * 4), min_size=1, max_size=50))
@settings(max_examples=30)
def test_every_member_is_in_one_class(outputs):
    classes = outcomes.count_outcomes(np.array(outputs)[..., None], xj.xor().y)
    assert sum(c.number for c in classes) == len(outputs)
    assert all(sum(c.patterns.values()) == c.number for c in classes)
    assert [c.number for c in classes] == sorted((c.number for c in classes), reverse=True)


def test_published_losses_and_their_place():
    losses = [run.loss for run in TUTORIAL_RUNS]
    np.testing.assert_allclose(losses, [0.00598, 0.00265, 0.144, 0.0043], rtol=5e-3)  # as the design states them
    assert arrays.share_better(0.2, np.array([0.1, 0.2, 0.3, np.nan])) == 0.5

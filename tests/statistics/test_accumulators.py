"""Statistics that stream against NumPy and SciPy on all the data, merged in any order."""

# pyright: reportAttributeAccessIssue=false

import subprocess
import sys
from fractions import Fraction
from itertools import pairwise

import jax
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import xorjax as xj
from xorjax import statistics as accumulators
from xorjax.statistics import arrays, exact_moments, outcomes
from xorjax.statistics.grouping import tally

XOR = xj.xor()
RATES = [0.1, 0.5, 2.0]
MEMBERS = xj.grid(learning_rate=RATES, seeds=range(200), momentum=[0.0, 0.9])
BY = ["momentum", "learning_rate"]
ALL = {
    "share": accumulators.share("all_right", by=BY),
    "moments": accumulators.moments("loss", by=["momentum"]),
    "quantiles": accumulators.quantiles([0.1, 0.5, 0.9], by=["learning_rate"]),
    "exact quantiles": accumulators.quantiles([0.1, 0.5, 0.9], by=["learning_rate"], exact_up_to=1200),
    "quantiles exact no more": accumulators.quantiles([0.1, 0.5, 0.9], exact_up_to=1199),
    "histogram": accumulators.histogram([0.0, 1e-3, 0.1, 1.0]),
    "times": accumulators.times(by=["momentum"]),
    "classes": accumulators.classes(XOR.y),
    "units": accumulators.hidden_units(XOR.x, of=None),
}


def make_results(n, seed=0):
    """Results as of training, without training."""
    rng = np.random.default_rng(seed)
    solved = np.where(rng.random(n) < 0.7, rng.integers(0, 400, n), -1)
    outcome = np.where(solved >= 0, xj.Outcome.SOLVED, rng.choice([xj.Outcome.UNSOLVED, xj.Outcome.DIVERGED], n))
    loss = np.float32(10.0) ** rng.uniform(-8, 2, n).astype(np.float32)
    loss[rng.random(n) < 0.1] = np.nan
    loss[rng.random(n) < 0.1] *= -1
    params = (
        xj.models.Dense(rng.normal(size=(n, 2, 2)).astype(np.float32), rng.normal(size=(n, 2)).astype(np.float32)),
    )
    return xj.Result(
        params, loss, rng.choice([0.5, 1.0], n), rng.random((n, 4, 1)), outcome, solved, np.full(n, 400), None
    )


RESULTS = make_results(len(MEMBERS))


def part_of(results, part):
    return jax.tree.map(lambda leaf: leaf[part], results)


def statistic(accumulator, results):
    """Of all results at once."""
    members = xj.grid(seeds=range(len(results.loss)))
    gathered = accumulator.update(accumulator.init(members), results, members.indices(slice(None)))
    return accumulator.finalize(gathered)


def gathered(accumulator, parts):
    found = accumulator.init(MEMBERS)
    for part in parts:
        found = accumulator.update(found, part_of(RESULTS, part), MEMBERS.indices(part))
    return found


def plain(statistic):
    """Arrays of statistics as lists, which JAX looks into."""
    return jax.tree.map(
        lambda leaf: leaf.tolist() if isinstance(leaf, np.ndarray) and leaf.dtype.kind == "O" else leaf, statistic
    )


def assert_equal(got, wanted):
    got, wanted = plain(got), plain(wanted)
    assert jax.tree.structure(got) == jax.tree.structure(wanted)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", ALL)
@given(st.lists(st.integers(0, len(MEMBERS)), max_size=6), st.randoms())
@settings(deadline=None, max_examples=8)
def test_cut_and_merged_in_any_order_it_is_the_same(name, cuts, random):
    accumulator = ALL[name]
    ends = [0, *sorted(cuts), len(MEMBERS)]
    parts = [slice(a, b) for a, b in pairwise(ends)]
    random.shuffle(parts)
    each = [gathered(accumulator, [part]) for part in parts]
    while len(each) > 1:
        i = random.randrange(len(each) - 1)
        each[i : i + 2] = [accumulator.merge(each[i], each[i + 1])]
    whole = accumulator.finalize(gathered(accumulator, [slice(None)]))
    assert_equal(accumulator.finalize(each[0]), whole)
    assert_equal(accumulator.finalize(gathered(accumulator, parts)), whole)


def grid_of(values):
    """(momentum, learning rate, members of both)."""
    return np.moveaxis(values.reshape(MEMBERS.shape), (2, 0, 1), (0, 1, 2))


@pytest.mark.parametrize("method", ["wilson", "exact"])
def test_shares_are_scipys(method):
    accumulator = accumulators.share("solved", by=BY, method=method, confidence=0.9)
    found = accumulator.finalize(gathered(accumulator, [slice(0, 500), slice(500, None)]))
    holds = grid_of(RESULTS.outcome == xj.Outcome.SOLVED)
    np.testing.assert_array_equal(found.number, holds.sum(-1))
    np.testing.assert_array_equal(found.share, holds.mean(-1))
    assert (found.total == 200).all()
    for i in np.ndindex(2, 3):
        wanted = stats.binomtest(int(holds[i].sum()), 200).proportion_ci(0.9, method)
        assert (found.low[i], found.high[i]) == (wanted.low, wanted.high)


def test_moments_are_those_of_the_finite_values():
    accumulator = accumulators.moments(by=["learning_rate"])
    found = accumulator.finalize(gathered(accumulator, [slice(0, 7), slice(7, None)]))
    for i in range(3):
        values = RESULTS.loss.reshape(MEMBERS.shape)[i].ravel()
        finite = values[np.isfinite(values)].astype(np.float64)
        assert (found.number[i], found.excluded[i]) == (len(finite), 400 - len(finite))
        np.testing.assert_allclose(found.mean[i], finite.mean(), rtol=1e-14)
        np.testing.assert_allclose(found.variance[i], finite.var(ddof=1), rtol=1e-13)


@settings(max_examples=30)
@given(
    st.lists(st.tuples(st.floats(allow_nan=False, allow_infinity=False), st.integers(0, 2)), max_size=50),
    st.integers(0, 50),
)
def test_sums_are_exact(values, cut):
    def of(part):
        numbers, which = (np.array([each[i] for each in part], t) for i, t in ((0, float), (1, int)))
        return exact_moments.add_values(exact_moments.zero_sums(3), numbers, which)

    wanted = [sum((Fraction(v) for v, i in values if i == which), Fraction(0)) for which in range(3)]
    whole = of(values)
    assert [exact_moments.to_fraction(limbs) for limbs in whole] == wanted
    np.testing.assert_array_equal(exact_moments.carry(of(values[cut:]) + of(values[:cut])), whole)
    numbers, which = np.array([v for v, _ in values], float), np.array([i for _, i in values], int)
    squares = exact_moments.add_squares(exact_moments.zero_sums(3), numbers, which)
    wanted = [sum((Fraction(v) ** 2 for v, i in values if i == which), Fraction(0)) for which in range(3)]
    assert [exact_moments.to_fraction(limbs) for limbs in squares] == wanted


@pytest.mark.parametrize(
    ("values", "mean", "variance"),
    [
        ([1e200, -1e200, 3.0], 1.0, np.inf),
        ([1.7e308] * 4, 1.7e308, 0.0),
        ([0.1] * 7, 0.1, 0.0),
        ([1e8 + 0.25, 1e8 + 0.75], 1e8 + 0.5, 0.125),
        ([1e-200, 3e-200], 2e-200, 0.0),
        ([np.nan, -np.inf], np.nan, np.nan),
    ],
)
def test_moments_are_rounded_once(values, mean, variance):
    found = statistic(accumulators.moments(), make_results(len(values))._replace(loss=np.array(values)))
    np.testing.assert_array_equal(found.mean, mean)
    np.testing.assert_array_equal(found.variance, variance)


@settings(max_examples=30)
@given(st.lists(st.floats(width=32), min_size=1, max_size=60), st.lists(st.floats(0, 1), min_size=1, max_size=4))
def test_quantiles_are_within_the_stated_error(values, at):
    accumulator = accumulators.quantiles(at, of=lambda results: results.loss)
    members = xj.grid(seeds=range(len(values)))
    results = make_results(len(values))._replace(loss=np.array(values, np.float32))
    found = accumulator.finalize(
        accumulator.update(accumulator.init(members), results, members.indices(slice(None)))
    )
    ordered = np.sort(np.where(np.isfinite(results.loss), results.loss, np.inf).astype(float))
    wanted = ordered[[max(0, int(np.ceil(np.round(q * len(values), 6))) - 1) for q in at]]
    finite = np.isfinite(wanted)
    np.testing.assert_array_equal(found[~finite], wanted[~finite])
    errors = np.abs(found[finite] - wanted[finite])
    assert (errors <= accumulators.QUANTILE_ERROR * np.abs(wanted[finite])).all()


@settings(max_examples=30)
@given(st.lists(st.floats(width=32), min_size=1, max_size=60), st.lists(st.floats(0, 1), min_size=1, max_size=4))
def test_quantiles_are_exact_up_to_the_stated_number_of_members(values, at):
    results = make_results(len(values))._replace(loss=np.array(values, np.float32))
    exact = statistic(accumulators.quantiles(at, exact_up_to=len(values)), results)
    np.testing.assert_array_equal(exact, arrays.quantiles(np.where(np.isfinite(values), values, np.inf), at))
    in_bins = statistic(accumulators.quantiles(at, exact_up_to=len(values) - 1), results)
    np.testing.assert_array_equal(in_bins, statistic(accumulators.quantiles(at), results))


def test_a_histogram_is_numpys_and_counts_the_values_outside():
    edges = [0.0, 1e-6, 1e-3, 1.0]
    counted = statistic(accumulators.histogram(edges), RESULTS)
    losses = RESULTS.loss.astype(float)
    np.testing.assert_array_equal(counted.counts, np.histogram(losses[np.isfinite(losses)], edges)[0])
    assert counted.counts.sum() + counted.outside == len(losses)


def test_patterns_are_limited_where_a_task_has_many_rows():
    task, outputs = xj.parity(4), np.random.default_rng(0).random((300, 16, 1))
    results = make_results(300)._replace(predictions=np.concatenate([outputs, task.y[None].repeat(50, 0)])[-300:])
    limited = statistic(accumulators.classes(task.y, max_patterns=3), results)
    whole = statistic(accumulators.classes(task.y), results)
    assert [(c.name, c.number) for c in limited] == [(c.name, c.number) for c in whole]
    assert all(len(c.patterns) <= 3 for c in limited)
    assert limited[1].patterns == {" ".join(map(str, task.y[:, 0].astype(int))): 50}


@pytest.mark.parametrize("seed", range(3))
def test_epochs_to_solve_are_those_of_the_array(seed):
    results, at = make_results(300, seed), [0, 0.1, 0.5, 0.69, 0.9, 1]
    times = statistic(accumulators.times(), results)
    np.testing.assert_array_equal(times.quantiles(at), arrays.epochs_to_solve(results.solved_epoch, at))


@pytest.mark.filterwarnings("ignore:The confidence interval is undefined")  # where no member is left
@pytest.mark.parametrize("seed", range(2))
def test_survival_is_scipys_with_its_interval(seed):
    results = make_results(300, seed)
    rng = np.random.default_rng(seed)
    results = results._replace(epochs=np.where(results.solved_epoch < 0, rng.integers(50, 400, 300), 400))
    members, accumulator = xj.grid(seeds=range(300)), accumulators.times()
    found = accumulator.finalize(
        accumulator.update(accumulator.init(members), results, members.indices(slice(None)))
    )
    ever = results.solved_epoch >= 0
    data = stats.CensoredData(uncensored=results.solved_epoch[ever], right=results.epochs[~ever])
    wanted, curve = stats.ecdf(data).sf, found.survival(0.9)
    at = np.isin(wanted.quantiles, curve.epoch)
    np.testing.assert_array_equal(curve.epoch, wanted.quantiles[at])
    np.testing.assert_allclose(curve.unsolved, wanted.probabilities[at], rtol=1e-12)
    interval = wanted.confidence_interval(0.9, method="log-log")
    for got, limit in ((curve.low, interval.low), (curve.high, interval.high)):
        np.testing.assert_allclose(got, limit.probabilities[at], rtol=1e-10)
    assert found.number == 300


def test_restarts_cost_what_failed_trials_cost():
    times = accumulators.Times(tally(np.array([10, 20, 20, 90])), tally(np.array([100, 100])))
    assert times.with_restarts(50) == (10 + 20 + 20 + 3 * 50) / 3
    assert times.with_restarts(100) == (10 + 20 + 20 + 90 + 2 * 100) / 4
    assert times.with_restarts(5) == float("inf")
    with pytest.raises(ValueError, match=r"epochs=-1 must be between 1 and"):
        times.with_restarts(-1)
    with pytest.raises(ValueError, match=r"confidence=2 must be between 0 and 1"):
        times.survival(2)
    with pytest.raises(ValueError, match=r"epochs=101 must be at most 100"):
        times.with_restarts(101)


def test_classes_are_those_of_all_results_at_once():
    accumulator = ALL["classes"]
    found = accumulator.finalize(gathered(accumulator, [slice(0, 300), slice(300, None)]))
    wanted = outcomes.count_outcomes(RESULTS.predictions, XOR.y)
    assert {c.name: (c.number, c.patterns) for c in found} == {c.name: (c.number, c.patterns) for c in wanted}


def test_hidden_units_are_counted_up_to_order_and_sign():
    def results(kernels, biases):
        params = (xj.models.Dense(np.array(kernels, float), np.array(biases, float)),)
        return make_results(len(kernels))._replace(params=params, outcome=np.full(len(kernels), xj.Outcome.SOLVED))

    or_unit, and_unit, nor_unit = ([1, 1], -0.5), ([1, 1], -1.5), ([-1, -1], 0.5)
    networks = [(or_unit, and_unit), (and_unit, or_unit), (nor_unit, and_unit)]
    given = results(
        [np.transpose([w for w, _ in network]) for network in networks],
        [[b for _, b in network] for network in networks],
    )
    members = xj.grid(seeds=range(3))

    def found(**options):
        accumulator = accumulators.hidden_units(XOR.x, **options)
        return accumulator.finalize(
            accumulator.update(accumulator.init(members), given, members.indices(slice(None)))
        )

    assert found() == {("0001", "0111"): 2, ("0001", "1000"): 1}
    assert found(odd=True) == {("0001", "0111"): 3}


def by_rate_and_momentum(h):
    return optax.sgd(h["learning_rate"], h["momentum"])


@pytest.mark.parametrize("chunk_size", [256, pytest.param(None, marks=pytest.mark.slow)])
def test_an_ensemble_is_reduced_to_what_its_results_say(chunk_size):
    trainer = xj.trainer(xj.mlp((2, 2, 1)), XOR, by_rate_and_momentum, epochs=150)
    results = xj.train_ensemble(trainer, MEMBERS, chunk_size=chunk_size)
    found = xj.train_ensemble(trainer, MEMBERS, reduce=ALL, chunk_size=chunk_size)
    combined = {
        name: each.finalize(each.update(each.init(MEMBERS), results, MEMBERS.indices(slice(None))))
        for name, each in ALL.items()
    }
    assert_equal(found, combined)
    alone = xj.train_ensemble(trainer, MEMBERS, reduce=ALL["share"], chunk_size=chunk_size)
    assert_equal(alone, combined["share"])


@pytest.mark.slow
def test_two_million_members_need_no_more_memory_than_a_tenth_of_them():
    def peak_megabytes(members):
        code = (
            "import resource, optax, xorjax as xj\n"
            "from xorjax import statistics as a\n"
            "trainer = xj.trainer(xj.mlp((2, 2, 1)), xj.xor(), optax.sgd(0.1), epochs=1)\n"
            "of = {'share': a.share(), 'loss': a.moments(), 'q': a.quantiles([0.5]), 'times': a.times()}\n"
            f"found = xj.train_ensemble(trainer, range({members}), reduce=of)\n"
            f"assert found['share'].total == {members}\n"
            "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)\n"
        )
        done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
        return float(done.stdout)

    assert peak_megabytes(2_000_000) < peak_megabytes(200_000) + 150

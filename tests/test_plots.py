"""Figures draw the numbers that they are given; what they look like is for eyes."""

import numpy as np
import pytest
from matplotlib.figure import Figure

import xorjax as xj
from xorjax import plots, statistics
from xorjax.published import TUTORIAL_RUNS


@pytest.fixture
def ax():
    return Figure().subplots()


def test_loss_curve_draws_the_history(ax):
    history = xj.History(np.arange(3) * 10, np.array([0.3, 0.2, 0.1]), np.array([0.5, 0.75, 1.0]))
    plots.loss_curve(ax, history)
    np.testing.assert_array_equal(ax.lines[0].get_xydata(), [[0, 0.3], [10, 0.2], [20, 0.1]])
    np.testing.assert_array_equal(ax.figure.axes[1].lines[0].get_ydata(), history.accuracy)
    assert ax.get_yscale() == "log"


def test_decision_surface_has_the_first_input_along_x(ax):
    outputs = np.array([[0.0, 0.1, 0.2], [0.3, 0.4, 0.5], [0.6, 0.7, 0.8]])
    plots.decision_surface(ax, np.arange(3), outputs, *xj.xor())
    mesh = ax.collections[0]
    np.testing.assert_array_equal(mesh.get_array(), outputs.T)
    points = {tuple(p) for c in ax.collections[-2:] for p in np.asarray(c.get_offsets())}
    assert points == {(0, 0), (0, 1), (1, 0), (1, 1)}


def test_loss_histogram_counts_finite_losses_and_marks_the_published(ax):
    losses = np.array([1e-3, 1e-2, 0.2, 0.25, np.inf, np.nan])
    plots.loss_histogram(ax, losses, TUTORIAL_RUNS)
    assert sum(patch.get_height() for patch in ax.patches) == 4
    assert [line.get_xdata()[0] for line in ax.lines] == [run.loss for run in TUTORIAL_RUNS]
    assert ax.get_title() == "4 members of 6, finite"


def test_loss_histogram_of_no_finite_loss_is_empty(ax):
    plots.loss_histogram(ax, np.array([np.nan]))
    assert not ax.patches


def test_unsolved_members_is_the_curve(ax):
    curve = statistics.SurvivalCurve(np.array([0.0, 5.0, 10.0]), np.array([1.0, 0.4, 0.4]))
    plots.unsolved_members(ax, curve)
    np.testing.assert_array_equal(ax.lines[0].get_xydata(), np.transpose(curve))
    assert ax.get_xlim() == (0, 10)


def test_prediction_strips_have_a_strip_for_each_pattern(ax):
    predictions = np.random.default_rng(0).random((30, 4, 1))
    plots.prediction_strips(ax, predictions, *xj.xor(), shown=20)
    for row, line in enumerate(ax.lines):
        np.testing.assert_array_equal(line.get_ydata(), predictions[:20, row, 0])
        assert np.abs(np.asarray(line.get_xdata()) - row).max() <= 0.4
    assert [label.get_text() for label in ax.get_xticklabels()] == ["00", "01", "10", "11"]

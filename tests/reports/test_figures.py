"""Figures draw the numbers that they are given; what they look like is for eyes."""

import numpy as np
import pytest
from matplotlib.figure import Figure

import xorjax as xj
from xorjax.reports import figures
from xorjax.reports.published import TUTORIAL_RUNS
from xorjax.reports.sweep import shorten_values
from xorjax.statistics import Histogram, Shares, Survival


@pytest.fixture
def ax():
    return Figure().subplots()


def test_loss_curve_draws_the_history(ax):
    history = xj.training.History(np.arange(3) * 10, np.array([0.3, 0.2, 0.1]), np.array([0.5, 0.75, 1.0]))
    figures.draw_loss_curve(ax, history)
    np.testing.assert_array_equal(ax.lines[0].get_xydata(), [[0, 0.3], [10, 0.2], [20, 0.1]])
    np.testing.assert_array_equal(ax.figure.axes[1].lines[0].get_ydata(), history.accuracy)
    assert ax.get_yscale() == "log"


def test_decision_surface_has_the_first_input_along_x(ax):
    outputs = np.array([[0.0, 0.1, 0.2], [0.3, 0.4, 0.5], [0.6, 0.7, 0.8]])
    figures.draw_decision_surface(ax, np.arange(3), outputs, xj.xor())
    mesh = ax.collections[0]
    np.testing.assert_array_equal(mesh.get_array(), outputs.T)
    points = {tuple(p) for c in ax.collections[-2:] for p in np.asarray(c.get_offsets())}
    assert points == {(0, 0), (0, 1), (1, 0), (1, 1)}


def test_losses_are_a_histogram_with_published_results_as_lines(ax):
    losses = Histogram(np.array([1e-4, 1e-3, 1e-2, 0.1, 1.0]), np.array([0, 1, 0, 3]), 2)
    figures.draw_losses(ax, losses, TUTORIAL_RUNS)
    np.testing.assert_array_equal(ax.patches[0].get_data().values, losses.counts)
    assert [line.get_xdata()[0] for line in ax.lines] == [run.loss for run in TUTORIAL_RUNS]
    assert [line.get_color() for line in ax.lines] == [run.color for run in TUTORIAL_RUNS]
    assert ax.get_title() == "losses of 4 members of 6, finite"


def test_losses_of_no_finite_one_are_empty(ax):
    figures.draw_losses(ax, Histogram(np.array([0.1, 1.0]), np.array([0]), 1))
    assert not ax.patches


def test_survival_is_the_curve_from_the_start_to_the_last_epoch(ax):
    curve = Survival(np.array([5.0]), np.array([0.4]), np.array([0.3]), np.array([0.5]))
    figures.draw_survival(ax, {"": curve}, 10)
    np.testing.assert_array_equal(ax.lines[0].get_xydata(), [[0, 1], [5, 0.4], [10, 0.4]])
    assert ax.get_xlim() == (0, 10)


def test_survival_where_no_member_is_solved_is_a_line_at_the_top(ax):
    figures.draw_survival(ax, {"": Survival(*[np.array([])] * 4)}, 10)
    np.testing.assert_array_equal(ax.lines[0].get_xydata(), [[0, 1], [10, 1]])


def test_predictions_have_a_strip_for_each_pattern(ax):
    predictions = np.random.default_rng(0).random((20, 4, 1))
    figures.draw_predictions(ax, predictions, xj.xor())
    for row, line in enumerate(ax.lines):
        np.testing.assert_array_equal(line.get_ydata(), predictions[:, row, 0])
        assert np.abs(np.asarray(line.get_xdata()) - row).max() <= 0.4
    assert [label.get_text() for label in ax.get_xticklabels()] == ["00", "01", "10", "11"]


@pytest.mark.parametrize(("n_bits", "labels"), [(4, 16), (6, 16), (8, 16)])
def test_predictions_of_many_patterns_are_labelled_here_and_there(ax, n_bits, labels):
    figures.draw_predictions(ax, np.random.default_rng(0).random((5, 2**n_bits, 1)), xj.parity(n_bits))
    assert len(ax.lines) == 2**n_bits
    texts = [label.get_text() for label in ax.get_xticklabels()]
    assert texts[:2] == ["0" * n_bits, f"{2**n_bits // labels:0{n_bits}b}"]
    assert len(texts) == labels


SHARES = np.array([[0.0, 0.25, np.nan], [0.5, 1.0, 0.75]])


def test_heat_map_has_rows_upwards_and_numbers_that_can_be_read(ax):
    image = figures.draw_heat_map(ax, SHARES, ("rate", [0.1, 4.0]), ("momentum", [0.0, 0.5, 0.9]))
    np.testing.assert_array_equal(np.ma.MaskedArray(image.get_array()).filled(np.nan), SHARES)
    assert image.origin == "lower"
    texts = {text.get_position(): (text.get_text(), text.get_color()) for text in ax.texts}
    assert texts == {
        (0, 0): ("0", "white"),
        (1, 0): ("25", "white"),
        (0, 1): ("50", "black"),
        (1, 1): ("100", "black"),
        (2, 1): ("75", "black"),
    }
    assert [label.get_text() for label in ax.get_yticklabels()] == ["0.1", "4"]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["0", "0.5", "0.9"]
    assert (ax.get_ylabel(), ax.get_xlabel()) == ("rate", "momentum")


def test_heat_map_of_many_values_has_some_of_the_ticks_and_no_numbers(ax):
    values = np.linspace(0, 1, 60).tolist()
    image = figures.draw_heat_map(ax, np.full((60, 60), 0.5), ("a", values), ("b", values), (0.2, 0.8), False)
    assert not ax.texts
    assert image.get_clim() == (0.2, 0.8)
    np.testing.assert_array_equal(ax.get_xticks(), np.arange(0, 60, 3))
    assert ax.get_xticklabels()[1].get_text() == shorten_values(values)[3]


def shares(share):
    share = np.asarray(share, float)
    total = np.where(np.isnan(share), 0, 100)
    low, high = (np.where(total, share + off, limit) for off, limit in ((-0.05, 0), (0.05, 1)))
    return Shares(np.nan_to_num(share * total).astype(int), total, share, low, high)


def test_shares_along_have_gaps(ax):
    figures.draw_line(ax, ("learning rate", [0.1, 1.0, 4.0]), shares([0.2, np.nan, 0.8]), "share solved")
    np.testing.assert_array_equal(ax.lines[0].get_xydata(), [[0.1, 0.2], [1.0, np.nan], [4.0, 0.8]])
    assert ax.get_xscale() == "log"
    assert [label.get_text() for label in ax.get_xticklabels()] == ["0.1", "1", "4"]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("learning rate", "share solved")


def test_shares_along_values_close_to_one_another_are_on_an_even_axis(ax):
    figures.draw_line(ax, ("hidden units", [2, 3, 4]), shares([0.2, 0.5, 0.6]), "share solved")
    assert ax.get_xscale() == "linear"
    np.testing.assert_array_equal(ax.get_xticks(), [2, 3, 4])
    band = ax.collections[0].get_paths()[0].get_extents()
    np.testing.assert_allclose([band.y0, band.y1], [0.15, 0.65])


AXES = {"hidden_units": [2, 3, 4, 5, 6], "learning_rate": [0.1, 0.5], "momentum": [0.0, 0.5, 0.9]}
FIGURES = {
    "one axis": (["momentum"], []),
    "two axes": (["learning_rate", "momentum"], [(2, 3)]),
    "sizes and one": (["hidden_units", "learning_rate"], [(5, 2)]),
    "three axes": (["hidden_units", "learning_rate", "momentum"], [(2, 3)] * 5),
}


@pytest.mark.parametrize("name", FIGURES)
def test_a_sweep_has_a_line_a_map_or_a_map_for_each_size(name, tmp_path):
    names, maps = FIGURES[name]
    axes = {axis: AXES[axis] for axis in names}
    shape = tuple(map(len, axes.values()))
    solved = shares(np.linspace(0.31, 0.69, int(np.prod(shape))).reshape(shape))
    solved.share.flat[1] = np.nan
    figure, turned = Figure(layout="constrained"), Figure(layout="constrained")
    figures.draw_shares(figure, axes, solved)
    backward = {axis: values[::-1] for axis, values in axes.items()}  # drawn ascending all the same
    figures.draw_shares(turned, backward, Shares(*map(np.flip, solved)))
    images = [image for ax in figure.axes for image in ax.images]
    assert [np.shape(image.get_array()) for image in images] == maps
    assert all(image.get_clim() == (0.3, 0.7) for image in images)
    for ax, other in zip(figure.axes, turned.axes, strict=True):
        assert [t.get_text() for t in ax.get_xticklabels()] == [t.get_text() for t in other.get_xticklabels()]
        for one, two in zip([*ax.images, *ax.lines], [*other.images, *other.lines], strict=True):
            data = "get_array" if ax.images else "get_xydata"
            np.testing.assert_array_equal(getattr(one, data)(), getattr(two, data)())
    if not maps:
        np.testing.assert_array_equal(figure.axes[0].lines[0].get_ydata(), solved.share)
    if len(names) == 3:
        assert [ax.get_title() for ax in figure.axes[:5]] == [f"{n} hidden units" for n in AXES["hidden_units"]]
        np.testing.assert_array_equal(images[1].get_array(), solved.share[1])
        below = [bool(ax.get_xlabel()) for ax in figure.axes[:5]]
        assert below == [False, True, True, True, True]
        assert [ax.xaxis.get_tick_params()["labelbottom"] for ax in figure.axes[:5]] == below


def test_a_long_title_is_wrapped_to_the_figure(tmp_path, monkeypatch):
    drawn = []
    save = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda figure, *a, **k: (drawn.append(figure), save(figure, *a, **k)))
    figures.plot_sweep(tmp_path / "a.png", {"momentum": [0.0, 0.5]}, shares([0.2, 0.5]), "a title " * 60)
    edges = drawn[0].get_suptitle().split("\n")
    assert len(edges) > 1
    assert max(map(len, edges)) <= 13 * drawn[0].get_figwidth()
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")

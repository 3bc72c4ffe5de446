"""Box dimensions of sets whose dimension is known."""

import numpy as np
import pytest

from xorjax.statistics.box_counting import boundary, box_counts

ROWS, COLUMNS = np.indices((256, 256))


@pytest.mark.parametrize(
    ("inside", "dimension"),
    [
        (ROWS == COLUMNS, 1.0),
        (ROWS >= 0, 2.0),
        (ROWS & COLUMNS == 0, np.log2(3)),  # Sierpiński's triangle
        (ROWS < 0, 0.0),
    ],
    ids=["line", "square", "triangle", "nothing"],
)
def test_a_set_has_the_dimension_it_is_known_for(inside, dimension):
    counts = box_counts(inside)
    assert counts.sides.tolist() == [1, 2, 4, 8, 16, 32]
    assert counts.dimension == pytest.approx(dimension, abs=1e-12)


def test_boxes_at_the_edge_are_counted_where_the_side_does_not_divide_the_picture():
    assert box_counts(np.ones((33, 33), bool)).counts.tolist() == [33**2, 17**2, 9**2]


def test_the_boundary_of_a_half_plane_is_one_line_between_its_pixels():
    found = boundary(COLUMNS < 100)
    assert found.shape == (255, 255)
    assert np.flatnonzero(found.any(axis=0)).tolist() == [99]
    assert found[:, 99].all()
    assert not boundary(ROWS >= 0).any()


@pytest.mark.parametrize("shape", [(4,), (4, 5), (1, 1), (0, 0)])
def test_a_picture_that_is_no_square_is_refused(shape):
    with pytest.raises(ValueError, match=r"inside must be a square of at least 2 by 2 pixels, got \("):
        box_counts(np.zeros(shape, bool))

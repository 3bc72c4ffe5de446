"""What members ended as, by counts of patterns: of their predictions, or of what their hidden units say."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from xorjax._checks import check_choice, check_real_array
from xorjax.ensembles.accumulator import Accumulator
from xorjax.ensembles.members import Places
from xorjax.networks.tasks import AnyArray
from xorjax.statistics.arrays import OutcomeClass, outcome_classes
from xorjax.statistics.grouping import CONDITIONS, OfMembers, of_each
from xorjax.training.results import Result


def classes(targets: AnyArray) -> Accumulator:
    """Outcome classes by the pattern of the final predictions, see `statistics.outcome_classes`.

    Args:
      targets: those of the batch, (n, 1), 0 or 1.

    Returns:
      An accumulator of a list of `statistics.OutcomeClass`, largest first.

    Raises:
      TypeError, ValueError: if they are none.

    >>> import optax, xorjax as xj
    >>> trainer = xj.trainer(xj.mlp((2, 2, 1), kernel_init="zeros"), xj.xor(), optax.sgd(0.1), epochs=5)
    >>> xj.train_ensemble(trainer, range(10), reduce=classes(xj.xor().y))
    [OutcomeClass(name='all at ½', number=10, patterns={'½ ½ ½ ½': 10})]
    """
    outcome_classes(np.empty((0, *np.shape(targets))), targets)  # raises, and says what is wrong

    def update(gathered: Any, results: Result, places: Places) -> Any:
        new = dict(gathered)
        for found in outcome_classes(results.predictions, targets):
            new[found.name] = new.get(found.name, Counter()) + Counter(found.patterns)
        return new

    def merge(one: Any, other: Any) -> Any:
        return {name: one.get(name, Counter()) + other.get(name, Counter()) for name in {**one, **other}}

    def finalize(gathered: Any) -> list[OutcomeClass]:
        found = [
            OutcomeClass(
                name, patterns.total(), dict(sorted(patterns.items(), key=lambda each: (-each[1], each[0])))
            )
            for name, patterns in gathered.items()
        ]
        return sorted(found, key=lambda c: (-c.number, c.name))

    return Accumulator(lambda members: {}, update, merge, finalize)


def hidden_units(x: AnyArray, *, odd: bool = False, of: str | OfMembers | None = "solved") -> Accumulator:
    """What the units of the first hidden layer say of the rows, up to the symmetries of the network, with counts.

    A unit says of each row whether its weighted sum is above 0. In which order the units are makes no difference;
    nor, for an odd activation such as tanh, whether a unit or its opposite is there.

    Args:
      x: inputs (n, n_in), at most 62 rows.
      odd: whether the activation is odd.
      of: which members: "solved", …, or a function as for `share`; None is all of them.

    Returns:
      An accumulator of a dictionary, commonest first: for each solution, the units in ascending order, each as a
      text of 0 and 1 by row, to the number of members that have it.

    Raises:
      ValueError: if there are too many rows.

    >>> import optax, xorjax as xj
    >>> trainer = xj.trainer(xj.mlp((2, 2, 1), kernel_init="zeros"), xj.xor(), optax.sgd(0.1), epochs=5)
    >>> xj.train_ensemble(trainer, range(10), reduce=hidden_units(xj.xor().x, of=None))
    {('0000', '0000'): 10}
    """
    x = check_real_array("x", x)
    n = len(x) if x.ndim == 2 else 0
    if not 0 < n <= 62:
        raise ValueError(f"x has shape {x.shape}; it must be (n, n_in), with 1 to 62 rows.")
    holds = of if of is None or callable(of) else check_choice("of", of, CONDITIONS)
    weights = np.int64(1) << np.arange(n, dtype=np.int64)[::-1]

    def update(gathered: Any, results: Result, places: Places) -> Any:
        layer = results.params[0]
        kernel, bias = (np.asarray(leaf, np.float64) for leaf in layer)
        if kernel.shape[1] != x.shape[1]:
            raise ValueError(f"x has {x.shape[1]} columns; the networks have {kernel.shape[1]} inputs.")
        if holds is not None:
            chosen = of_each(holds, results, bool)
            kernel, bias = kernel[chosen], bias[chosen]
        above = x @ kernel + bias[:, None, :] > 0
        units = np.einsum("mnh,n->mh", above, weights)
        if odd:
            units = np.minimum(units, 2**n - 1 - units)
        found, counts = np.unique(np.sort(units, axis=1), axis=0, return_counts=True)
        return gathered + Counter(dict(zip(map(tuple, found.tolist()), counts.tolist(), strict=True)))

    def finalize(gathered: Any) -> dict[tuple[str, ...], int]:
        named_units = {tuple(f"{unit:0{n}b}" for unit in units): count for units, count in gathered.items()}
        return _commonest_first(named_units)

    return Accumulator(lambda members: Counter(), update, lambda one, other: one + other, finalize)


def _commonest_first(counts: Mapping[Any, int]) -> dict[Any, int]:
    return dict(sorted(counts.items(), key=lambda each: (-each[1], each[0])))

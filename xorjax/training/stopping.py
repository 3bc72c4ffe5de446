"""Rules by which a network stops before its last epoch, evaluated before every update."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, ArrayLike, Bool, Float, Int, PyTree

from xorjax._checks import check_choice, check_integer, check_real

Solved = Bool[Array, ""]  # whether the solved rule ever held
Loss = Float[Array, ""]
Epoch = Int[Array, ""]


class StopRule(NamedTuple):
    """A rule that stops a network, as two pure functions.

    Attributes:
      init: `init(dtype) -> carried`, a pytree of scalars; the dtype is that of the loss.
      update: `update(carried, solved, loss, epoch) -> (carried, stops)`, called before the update of each epoch.
        `solved` says whether the solved rule ever held, `loss` is that of the whole batch now, `epoch` the number
        of epochs trained. After a stop, the rule is called again with the same values, and must stop again.
    """

    init: Callable[[DTypeLike], PyTree]
    update: Callable[[PyTree, Solved, Loss, Epoch], tuple[PyTree, Bool[ArrayLike, ""]]]


NEVER = StopRule(lambda dtype: (), lambda carried, solved, loss, epoch: (carried, False))
SOLVED = StopRule(lambda dtype: (), lambda carried, solved, loss, epoch: (carried, solved))
# The rules that have names, for `stop="solved"`, for plans and for the option --stop.
RULES = {"never": NEVER, "solved": SOLVED}


def plateau(epochs: int, improvement: float = 0.0) -> StopRule:
    """Return a rule that stops a network whose loss has not improved for a number of epochs.

    Args:
      epochs: the number of epochs without improvement, 1 to 2^30.
      improvement: a loss, of the whole batch, is an improvement if it is below the best so far by more than
        this, 0 or more. A loss of nan never counts as one.

    Returns:
      A rule for `trainer(..., stop=...)`.

    Raises:
      TypeError, ValueError: naming the argument, its value and what is allowed.

    >>> rule = plateau(epochs=2)
    >>> carried = rule.init(jnp.float32)
    >>> for epoch, loss in enumerate([0.3, 0.2, 0.25, 0.2]):
    ...     carried, stops = rule.update(carried, False, loss, epoch)
    >>> bool(stops)  # 0.2 at epoch 1 was the best, two epochs ago
    True
    """
    epochs = check_integer("epochs", epochs, 1, 2**30)
    if not 0 <= check_real("improvement", improvement) < math.inf:
        raise ValueError(f"{improvement=} must be 0 or more, and finite.")

    def update(carried: PyTree, solved: Solved, loss: Loss, epoch: Epoch) -> tuple[PyTree, Bool[Array, ""]]:
        best, since = carried
        is_better = loss < best - improvement
        best, since = jnp.where(is_better, loss, best), jnp.where(is_better, epoch, since)
        return (best, since), epoch - since >= epochs

    return StopRule(lambda dtype: (jnp.array(jnp.inf, dtype), jnp.int32(0)), update)


def check_stop(stop: object) -> StopRule:
    """Return the rule that `stop` names or is; of several rules, the one that stops first.

    Raises:
      TypeError, ValueError: if it is none.
    """
    if isinstance(stop, StopRule):
        return stop
    if isinstance(stop, Sequence) and not isinstance(stop, str):
        rules = [rule for each in stop if (rule := check_stop(each)) is not NEVER]
        return _first_of(rules) if rules else NEVER
    if not isinstance(stop, str):
        raise TypeError(
            f"{stop=} must be 'never', 'solved', a StopRule such as xj.training.plateau(100), or a list of these."
        )
    return check_choice("stop", stop, RULES)


def check_rule(rule: StopRule, dtype: DTypeLike) -> None:
    """Check by shapes alone that a rule returns what it carries in the same form, and a Boolean.

    Raises:
      ValueError: if it does not.
    """
    carried = jax.eval_shape(lambda: rule.init(dtype))
    now = (jax.ShapeDtypeStruct((), each) for each in (jnp.bool_, dtype, jnp.int32))
    new, stops = jax.eval_shape(rule.update, carried, *now)
    if jnp.shape(stops) != () or jnp.result_type(stops) != jnp.bool_:
        raise ValueError(f"stop.update must answer with a Boolean scalar, got {stops}.")
    given, returned = (
        jax.tree.map(lambda leaf: (jnp.shape(leaf), jnp.result_type(leaf)), each) for each in (carried, new)
    )
    if given != returned:
        raise ValueError(f"stop.update must carry on what stop.init gives, {carried}, got {new}.")


def _first_of(rules: Sequence[StopRule]) -> StopRule:
    def update(carried: PyTree, solved: Solved, loss: Loss, epoch: Epoch) -> tuple[PyTree, Bool[Array, ""]]:
        answers = [rule.update(each, solved, loss, epoch) for rule, each in zip(rules, carried, strict=True)]
        stops = jnp.bool_(False)
        for _, each in answers:
            stops = stops | each
        return tuple(new for new, _ in answers), stops

    return StopRule(lambda dtype: tuple(rule.init(dtype) for rule in rules), update)

"""When a network stops before its last epoch: rules that are asked before every update."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float, Int

from xorjax._checks import check_choice, check_integer, check_real


class StopRule(NamedTuple):
    """Whether a network stops, from what it was before; pure functions of one network.

    Attributes:
      init: `init(dtype) -> carried`, a pytree of scalars, from the dtype of the loss.
      update: `update(carried, solved, loss, epoch) -> (carried, stops)`, asked before the update of this epoch:
        whether the solved rule ever held, the loss now, and the epochs trained. A network that stops keeps what
        it carried, and is asked again: the answer must be the same.
    """

    init: Callable[[Any], Any]
    update: Callable[[Any, Bool[Array, ""], Float[Array, ""], Int[Array, ""]], tuple[Any, Bool[ArrayLike, ""]]]


NEVER = StopRule(lambda dtype: (), lambda carried, solved, loss, epoch: (carried, False))
SOLVED = StopRule(lambda dtype: (), lambda carried, solved, loss, epoch: (carried, solved))
RULES = {"never": NEVER, "solved": SOLVED}


def plateau(epochs: int, improvement: float = 0.0) -> StopRule:
    """Stops when the loss has not become better for so many epochs.

    Args:
      epochs: how many, 1 to 2^30.
      improvement: by how much a loss must be below the best one so far to count as better, 0 or more. A loss that
        is not a number never is.

    Returns:
      A rule for `trainer(..., stop=...)`.

    Raises:
      TypeError, ValueError: if they are not such numbers.

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

    def update(carried: Any, solved: Any, loss: Any, epoch: Any) -> tuple[Any, Any]:
        best, since = carried
        is_better = loss < best - improvement
        best, since = jnp.where(is_better, loss, best), jnp.where(is_better, epoch, since)
        return (best, since), epoch - since >= epochs

    return StopRule(lambda dtype: (jnp.array(jnp.inf, dtype), jnp.int32(0)), update)


def stop_rule(stop: Any) -> StopRule:
    """The rule that `stop` names or is; of several, whichever stops first.

    Raises:
      TypeError, ValueError: if it is none.
    """
    if isinstance(stop, StopRule):
        return stop
    if isinstance(stop, Sequence) and not isinstance(stop, str):
        rules = [rule for each in stop if (rule := stop_rule(each)) is not NEVER]
        return _first_of(rules) if rules else NEVER
    if not isinstance(stop, str):
        raise TypeError(
            f"{stop=} must be 'never', 'solved', a StopRule such as xj.training.plateau(100), or a list of these."
        )
    return check_choice("stop", stop, RULES)


def check_rule(rule: StopRule, dtype: Any) -> None:
    """Checks by shapes alone that a rule carries on what it was given, and answers with a Boolean.

    Raises:
      ValueError: if it does not.
    """
    carried = jax.eval_shape(lambda: rule.init(dtype))
    now = (jax.ShapeDtypeStruct((), each) for each in (jnp.bool_, dtype, jnp.int32))
    new, stops = jax.eval_shape(rule.update, carried, *now)
    if jnp.shape(stops) != () or jnp.result_type(stops) != jnp.bool_:
        raise ValueError(f"stop.update must answer with a Boolean scalar, got {stops}.")
    given, found = (
        jax.tree.map(lambda leaf: (jnp.shape(leaf), jnp.result_type(leaf)), each) for each in (carried, new)
    )
    if given != found:
        raise ValueError(f"stop.update must carry on what stop.init gives, {carried}, got {new}.")


def _first_of(rules: Sequence[StopRule]) -> StopRule:
    def update(carried: Any, *now: Any) -> tuple[Any, Any]:
        asked = [rule.update(each, *now) for rule, each in zip(rules, carried, strict=True)]
        stops = jnp.bool_(False)
        for _, each in asked:
            stops = stops | each
        return tuple(new for new, _ in asked), stops

    return StopRule(lambda dtype: tuple(rule.init(dtype) for rule in rules), update)

"""Values as a user writes them, in a file or as options of the command: parsed, checked, and refused by name.

Each function raises a `TypeError` or a `ValueError` that begins with the name of the setting and its value.
"""

import inspect
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from types import FunctionType

import numpy as np
import optax
from jax.typing import ArrayLike
from numpy.typing import DTypeLike

from xorjax._checks import check_integer
from xorjax.ensembles.members import MAX_SEED
from xorjax.networks.tasks import Batch, parity, truth_table, xor

OptimizerFactory = Callable[..., optax.GradientTransformation]

MAX_VALUES = 10_000  # of a hyper-parameter
MAX_INPUTS = 8  # of a task: reports look at every output of every member
MAX_FLOAT = float(np.finfo(np.float32).max)  # training turns greater numbers into infinity


def parse_task(name: str, text: str) -> Batch:
    """Return the rows of the task `xor`, `parity:3`, or a truth table, such as `0110` for 00, 01, 10, 11.

    >>> parse_task("task", "parity:3").x.shape
    (8, 3)
    """
    kind, colon, digits = text.partition(":")
    if text == "xor":
        return xor()
    if kind == "parity" and colon:
        if digits not in map(str, range(1, MAX_INPUTS + 1)):
            raise ValueError(f"{name}={text!r} must be parity:N with N from 1 to {MAX_INPUTS}.")
        return parity(int(digits))
    if not text or set(text) - {"0", "1"}:
        raise ValueError(f"{name}={text!r} must be xor, parity:3, or the outputs of a truth table such as 0110.")
    if len(text) not in (2**n for n in range(1, MAX_INPUTS + 1)):
        has = f"{len(text)} digits; a truth table has 2, 4, 8, … {2**MAX_INPUTS} of them"
        raise ValueError(f"{name}={text!r} has {has}.")
    return truth_table([int(digit) for digit in text])


def parse_integer(name: str, value: object, low: int, high: int) -> int:
    """Return an integer from `low` to `high`, which may be written as a float or a text without loss.

    >>> parse_integer("epochs", "1e5", 1, 10**6), parse_integer("epochs", 2e3, 1, 10**6)
    (100000, 2000)
    """
    if isinstance(value, str):
        with suppress(ValueError):
            value = int(value)
    if isinstance(value, str | float):
        with suppress(ValueError):
            if float(value).is_integer():
                value = int(float(value))
    return check_integer(name, value, low, high)


def parse_seeds(name: str, value: object) -> range:
    """Return the seeds that a count (`10000` is 0 to 9,999) or a range (`5:900` is 5 to 899) names."""
    if not isinstance(value, str):
        return range(parse_integer(name, value, 1, MAX_SEED + 1))
    first, colon, last = value.partition(":")
    try:
        begin = int(first) if colon else 0
        end = int(last) if colon else parse_integer(name, value, 0, 2**63)
    except (TypeError, ValueError):
        raise ValueError(f"{name}={value!r} must be a count such as 10000, or a range such as 5:900.") from None
    if not 0 <= begin < end <= MAX_SEED + 1:
        raise ValueError(f"{name}={value!r} must name at least one seed, all of them from 0 to {MAX_SEED}.")
    return range(begin, end)


def parse_values(name: str, value: object) -> float | list[float]:
    """Return the number, or the list of numbers, that a user gives for a hyper-parameter.

    The value is a number; a text with a number (`0.1`), a list (`0.1,0.5`) or `from:to:count`, which is evenly
    spaced with both ends; or a list of these. No number may be infinite in float32, or occur twice.

    >>> parse_values("momentum", "0:0.9:4"), parse_values("momentum", "0.9")
    ([0.0, 0.3, 0.6, 0.9], 0.9)
    """
    parts = value if isinstance(value, list) else [value]
    try:
        numbers = [number for part in parts for number in _parse_part(name, part)]
    except TypeError:
        numbers = []
    if not numbers:
        wanted = "a finite number of float32, a list of them such as 0.1,0.5, or from:to:count such as 0:0.9:10"
        raise TypeError(f"{name}={value!r} must be {wanted}.")
    if len(numbers) > MAX_VALUES:
        raise ValueError(f"{name} has {len(numbers):,} values; at most {MAX_VALUES:,} are allowed.")
    check_distinct(name, numbers)
    return numbers if isinstance(value, list) or len(numbers) > 1 else numbers[0]


def _parse_part(name: str, part: object) -> list[float]:
    """Return the numbers of one element; raise a TypeError without a message if they are no finite numbers.

    The numbers between the ends of a range have 12 digits, so that 0:0.9:10 has 0.3 and not 0.30000000000000004,
    which is the same number in float32.
    """
    if not isinstance(part, str) or ":" not in part:
        return [_check_finite(each) for each in (part.split(",") if isinstance(part, str) else [part])]
    try:
        begin, end, digits = part.split(":")
        count = int(digits)
    except ValueError:
        raise TypeError from None
    first, last = _check_finite(begin), _check_finite(end)
    if not 2 <= count <= MAX_VALUES or first == last:
        wanted = f"go from one number to another, and have a count from 2 to {MAX_VALUES}"
        raise ValueError(f"{name}={part!r} must {wanted}.")
    return [first, *(float(f"{number:.12g}") for number in np.linspace(first, last, count)[1:-1]), last]


def _check_finite(value: object) -> float:
    try:
        number = float(value) if isinstance(value, str) else value
    except ValueError:
        raise TypeError from None
    if isinstance(number, bool) or not isinstance(number, int | float) or not abs(number) <= MAX_FLOAT:
        raise TypeError
    return float(number)


def parse_sizes(name: str, texts: Sequence[str], high: int) -> list[int]:
    """Return the different integers from 1 to `high` of texts such as `3` and `2,3,4`."""
    sizes = [parse_integer(name, part, 1, high) for text in texts for part in text.split(",")]
    check_distinct(name, sizes)
    return sizes


def check_distinct(name: str, values: ArrayLike | Sequence[float], dtype: DTypeLike = np.float32) -> None:
    """Check that no two values are the same number in the dtype of training."""
    trained = np.asarray(values).astype(dtype).tolist()
    if len(set(trained)) < len(trained):
        raise ValueError(f"{name}={values!r} must hold each value once, in {np.dtype(dtype)}.")


def find_optimizers() -> dict[str, OptimizerFactory]:
    """Return the optimizers of optax and optax.contrib that need only a learning rate and draw no random numbers.

    Optimizers with a random key of their own are left out: all members would get the same noise.
    """
    return {
        prefix + name: function
        for prefix, module in (("", optax), ("contrib.", optax.contrib))
        for name, function in inspect.getmembers(module, lambda each: isinstance(each, FunctionType | partial))
        if not name.startswith(("_", "scale_by_")) and _needs_only_a_rate(function)
    }


def _needs_only_a_rate(function: OptimizerFactory) -> bool:
    parameters = list(inspect.signature(function).parameters.values())
    if not parameters or parameters[0].name not in ("learning_rate", "max_learning_rate"):
        return False
    others = parameters[1:]
    needed = [p for p in others if p.default is p.empty and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    return not needed and not {"key", "seed"} & {p.name for p in others}


def find_hyper_parameters(optimizer: OptimizerFactory) -> list[str]:
    """Return the numbers that an optimizer takes: its rate, momentum, and parameters with a float as default."""
    _, *others = inspect.signature(optimizer).parameters.values()
    return ["learning_rate", *(p.name for p in others if isinstance(p.default, float) or p.name == "momentum")]

"""The keys of a plan, in a TOML file or by the options of the command: how each value is checked, and its default.

    task              xor, parity:N, or the outputs of a truth table, such as 0110
    hidden_units      units of the hidden layer
    hidden, output    activations: sigmoid, tanh, relu, …
    kernel_init       glorot_uniform, he_normal, …
    loss              mse, or sigmoid_cross_entropy with the output linear
    optimizer         any optimizer of optax that needs a learning rate alone and draws no numbers
    epochs            passes over all rows
    batch_size        rows in an update; all if it is not given
    shuffle           true or false: whether mini-batches are drawn anew in each epoch
    stop              never or solved
    validation_split  share of the rows that are held out
    record_every      epochs between records; or
    record_at         a list of epochs to record
    seeds             a number, or a text, such as "5:900"
    store             folder or URL of the study
    keep              list of the fields of `Result` that are stored
    shard_size        members that are committed together
    axes              table of hyper-parameters: a list makes an axis, one number is shared by all members

A new key needs the default that leaves plans as they were: a store that lacks it is read with that default.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from xorjax._checks import check_choice, check_integer
from xorjax.networks.losses import mse, sigmoid_cross_entropy
from xorjax.networks.models import ACTIVATIONS, INITIALIZERS
from xorjax.studies.parsing import find_optimizers, parse_integer, parse_seeds, parse_task
from xorjax.studies.store.layout import MAX_SHARD_SIZE
from xorjax.training.results import Result
from xorjax.training.stopping import RULES
from xorjax.training.trainer import MAX_EPOCHS

LOSSES = {"mse": mse, "sigmoid_cross_entropy": sigmoid_cross_entropy}
OPTIMIZERS = find_optimizers()
MAX_HIDDEN_UNITS = 1024

Check = Callable[[str, Any], Any]  # check(key, value) -> the value to keep


class Key(NamedTuple):
    """A key of a plan: how its value is checked, and the default."""

    check: Check
    default: Any = None


def _allow_integers(low: int, high: int) -> Check:
    return lambda key, value: parse_integer(key, value, low, high)


def _allow_choices(choices: Mapping[str, Any]) -> Check:
    return lambda key, value: check_choice(key, value, {name: name for name in choices})


def _allow_if(is_valid: Callable[[Any], bool], allowed: str) -> Check:
    def check(key: str, value: Any) -> Any:
        if not is_valid(value):
            raise ValueError(f"{key}={value!r} must be {allowed}.")
        return value

    return check


def _check_fields(key: str, value: Any) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(field, str) for field in value):
        raise TypeError(f"{key}={value!r} must be a list of names, such as ['loss'].")
    for i, field in enumerate(value):
        check_choice(f"{key}[{i}]", field, dict.fromkeys(Result._fields))
    return value


def _check_text(key: str, value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise TypeError(f"{key}={value!r} must be a text.")
    if re.search(r"[\x00-\x1f\x7f-\x9f]", value):
        raise ValueError(f"{key}={value!r} must be a text without control characters.")
    return value


def _check_task(key: str, value: Any) -> str:
    parse_task(key, _check_text(key, value))
    return value


def _check_epochs(key: str, value: Any) -> list[int]:
    if not isinstance(value, list):
        raise TypeError(f"{key}={value!r} must be a list of epochs.")
    return [check_integer(f"{key}[{i}]", epoch, 0, MAX_EPOCHS) for i, epoch in enumerate(value)]


_check_share = _allow_if(lambda value: type(value) is float and 0 < value < 1, "a number between 0 and 1")
TRAINER_KEYS = {
    "task": Key(_check_task, "xor"),
    "hidden_units": Key(_allow_integers(1, MAX_HIDDEN_UNITS), 2),
    "hidden": Key(_allow_choices(ACTIVATIONS), "sigmoid"),
    "output": Key(_allow_choices(ACTIVATIONS), "sigmoid"),
    "kernel_init": Key(_allow_choices(INITIALIZERS), "glorot_uniform"),
    "loss": Key(_allow_choices(LOSSES), "mse"),
    "optimizer": Key(_allow_choices(OPTIMIZERS), "sgd"),
    "epochs": Key(_allow_integers(1, MAX_EPOCHS), 100_000),
    "batch_size": Key(_allow_integers(1, 2**20)),
    "shuffle": Key(_allow_if(lambda value: isinstance(value, bool), "true or false"), True),
    "stop": Key(_allow_choices(RULES), "never"),
    "validation_split": Key(_check_share),
    "record_every": Key(_allow_integers(1, MAX_EPOCHS)),
    "record_at": Key(_check_epochs),
}
STUDY_KEYS = {
    "seeds": Key(parse_seeds, 10_000),
    "store": Key(_check_text),
    "keep": Key(_check_fields),
    "shard_size": Key(_allow_integers(1, MAX_SHARD_SIZE)),
}
KEYS = {**TRAINER_KEYS, **STUDY_KEYS}

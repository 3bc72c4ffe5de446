"""Plans: studies in words, from a TOML file, a store or a dictionary, and all that may be wrong with them."""

import re
import tomllib
from pathlib import Path

import jax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xorjax.studies.plan import build_plan, build_setup, from_store, read_plan, to_store
from xorjax.studies.plan_keys import KEYS, TRAINER_KEYS

WHOLE = """
seeds = "5:900"
store = "runs/a.zarr"
task = "parity:3"
hidden_units = 4
hidden = "tanh"
output = "linear"
kernel_init = "he_normal"
loss = "sigmoid_cross_entropy"
optimizer = "adam"
epochs = 1_000
batch_size = 2
shuffle = false
stop = "solved"
validation_split = 0.25
record_at = [0, 10, 1_000]
keep = ["loss", "history"]
shard_size = 64

[axes]
learning_rate = "0.1:1:4"
b1 = 0.8
b2 = [0.9, 0.99]
"""


def written(tmp_path, text):
    path = tmp_path / "study.toml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.lenient
def test_a_plan_says_all_of_a_study(tmp_path):
    plan = read_plan(written(tmp_path, WHOLE))
    assert plan.seeds == range(5, 900)
    assert plan.axes == {"learning_rate": [0.1, 0.4, 0.7, 1.0], "b1": 0.8, "b2": [0.9, 0.99]}
    assert (plan.store, plan.keep, plan.shard_size) == ("runs/a.zarr", ["loss", "history"], 64)
    setup = build_setup(plan.options, {"learning_rate": 0.1, "b1": 0.8, "b2": 0.9})
    assert setup.network == "3-4-1"
    assert (setup.trainer.epochs, setup.trainer.stops, setup.trainer.recorded) == (1_000, True, (0, 10, 1_000))
    state = jax.eval_shape(setup.trainer.init, jax.random.key(0), {"learning_rate": 0.1, "b1": 0.8, "b2": 0.9})
    assert state.params[0].kernel.shape == (3, 4)
    assert state.key_shuffle is None


def test_the_plans_that_are_shown_are_right(tmp_path):
    root = Path(__file__).parents[2]
    million = read_plan(root / "examples/xor_million.toml")
    assert (len(million.seeds), million.options["epochs"], million.axes) == (
        10**6,
        100_000,
        {"learning_rate": 0.01},
    )
    (shown,) = re.findall(r"```toml\n(.*?)```", (root / "README.md").read_text(encoding="utf-8"), re.S)
    plan = read_plan(written(tmp_path, shown))
    assert isinstance(rates := plan.axes["learning_rate"], list)
    assert len(rates) > 1


def test_an_empty_plan_is_the_tutorial(tmp_path):
    plan = read_plan(written(tmp_path, ""))
    assert plan.seeds == range(10_000)
    assert plan.axes == {"learning_rate": 0.01}
    assert plan.options == {name: key.default for name, key in TRAINER_KEYS.items()}


@pytest.mark.lenient
def test_what_a_store_keeps_of_a_plan_makes_the_same_trainer(tmp_path):
    plan = read_plan(written(tmp_path, WHOLE))
    assert from_store(to_store(plan)) == plan.options
    for wrong in (
        {**to_store(plan), "data": "SHA-256 of another"},
        {**to_store(plan), "task": "and"},
        {"epochs": 3},
    ):
        with pytest.raises(ValueError, match="the plan in the store is not one of this version"):
            from_store(wrong)
    with pytest.raises(ValueError, match="made in Python"):
        from_store(None)


@pytest.mark.lenient
def test_a_key_that_an_older_store_lacks_has_its_default(tmp_path):
    plan = read_plan(written(tmp_path, ""))
    stored = to_store(plan)
    for name in TRAINER_KEYS:
        assert from_store({key: value for key, value in stored.items() if key != name}) == plan.options


WRONG = {
    "an unknown key": ("epoch = 3", "'epoch' is not a key of a study; did you mean 'epochs'?"),
    "a key like no other": ("whatever = 3", "'whatever' is not a key of a study; known are task, "),
    "epochs in words": ("epochs = 'many'", "epochs='many' must be an integer."),
    "no epochs": ("epochs = 0", "epochs=0 must be between 1 and 1073741824."),
    "half an epoch": ("epochs = 0.5", "epochs=0.5 must be an integer."),
    "infinite epochs": ("epochs = inf", "epochs=inf must be an integer."),
    "a truth for a number": ("epochs = true", "epochs=True must be an integer."),
    "no seeds": ("seeds = 0", "seeds=0 must be between 1 and 4294967296."),
    "seeds backwards": ("seeds = '9:5'", "seeds='9:5' must name at least one seed"),
    "an unknown task": ("task = 'and'", "task='and' must be xor, parity:3"),
    "a task of numbers": ("task = 110", "task=110 must be a text."),
    "an unknown optimizer": ("optimizer = 'sdg'", "did you mean 'sgd'?"),
    "an unknown activation": ("hidden = 'sigmod'", "hidden='sigmod' must be one of"),
    "a loss of no name": ("loss = 'mae'", "loss='mae' must be one of mse, sigmoid_cross_entropy"),
    "shuffle in words": ("shuffle = 'no'", "shuffle='no' must be true or false."),
    "all held out": ("validation_split = 1.0", "validation_split=1.0 must be a number between 0 and 1."),
    "one thing to keep": ("keep = 'loss'", "keep='loss' must be a list of names"),
    "records in words": ("record_at = 'often'", "record_at='often' must be a list of epochs."),
    "a record too late": ("epochs = 5\nrecord_at = [9]", "record_at[0]=9 must be between 0 and epochs=5."),
    "two ways to record": ("record_every = 9\nrecord_at = [9]", "record_every=9 and record_at=[9] are given"),
    "a batch too large": ("batch_size = 9", "batch_size=9 must be between 1 and n=4."),
    "shards of none": ("shard_size = 0", "shard_size=0 must be between 1 and 16777216."),
    "axes that are no table": ("axes = 3", "axes=3 must be a table, [axes], of hyper-parameters."),
    "axes that are tables": ("[[axes]]\nb1 = 1", "axes=[{'b1': 1}] must be a table"),
    "an unknown axis": (
        "[axes]\nmomentun = 0.9",
        "axes.momentun: the optimizer sgd takes learning_rate, momentum;",
    ),
    "momentum for adam": (
        "optimizer = 'adam'\n[axes]\nmomentum = 0.9",
        "axes.momentum: the optimizer adam takes learning_rate, b1, b2, ",
    ),
    "an axis of words": ("[axes]\nmomentum = 'big'", "axes.momentum='big' must be a finite number of float32, a"),
    "an axis of truths": ("[axes]\nmomentum = [true]", "axes.momentum=[True] must be a finite number of float32"),
    "an axis that is a table": ("[axes.momentum]\na = 1", "axes.momentum={'a': 1} must be a finite number"),
    "an empty axis": ("[axes]\nmomentum = []", "axes.momentum=[] must be a finite number"),
    "no number": ("[axes]\nmomentum = nan", "axes.momentum=nan must be a finite number"),
    "a value twice": ("[axes]\nmomentum = [0.1, 0.1]", "axes.momentum=[0.1, 0.1] must hold each value once"),
    "values too close": ("[axes]\nmomentum = [1.0, 1.000000001]", "must hold each value once, in float32"),
    "infinite in float32": ("[axes]\nmomentum = 1e39", "axes.momentum=1e+39 must be a finite number of float32"),
    "infinite values": ("[axes]\nmomentum = [1, -1e39]", "axes.momentum=[1, -1e+39] must be a finite number"),
    "an infinite range": ("[axes]\nmomentum = '0:1e39:3'", "axes.momentum='0:1e39:3' must be a finite number"),
    "a number of 401 digits": ("[axes]\nmomentum = 1" + 400 * "0", "axes.momentum=10000"),
    "a field that is none": ("keep = ['loss', 'lost']", "keep[1]='lost' must be one of params, loss, "),
    "records of none": ("keep = ['history']", "keep[0]='history' must be one of params, loss, "),
    "a store with a NUL": ('store = "a\\u0000b"', "store='a\\x00b' must be a text without control characters"),
    "an optimizer that wants more": ("optimizer = 'contrib.sophia'", "optimizer='contrib.sophia' can't be used"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_files_say_what_is_wrong(name, tmp_path):
    text, what = WRONG[name]
    path = written(tmp_path, text)
    with pytest.raises(ValueError, match="has 1 problem:") as error:
        read_plan(path)
    first, problem = str(error.value).split("\n")
    assert first == f"{path} has 1 problem:"
    assert what in problem


def test_all_problems_are_told_at_once_in_the_order_of_the_file(tmp_path):
    text = "stop = 'now'\nepochs = 0\n[axes]\nlearning_rate = 'fast'\nmomentum = []\n"
    with pytest.raises(ValueError, match="has 4 problems:") as error:
        read_plan(written(tmp_path, text))
    _, *lines = str(error.value).split("\n")
    keys = ["stop", "epochs", "axes.learning_rate", "axes.momentum"]
    assert [line.partition("=")[0] for line in lines] == keys


def test_keys_that_do_not_fit_together_are_told_at_once():
    given = {"record_at": [10], "epochs": 5, "batch_size": 9, "keep": ["validation_loss"]}
    plan, errors = build_plan(given)
    assert plan is None
    assert {error.key: str(error) for error in errors} == {
        "record_at": "record_at[0]=10 must be between 0 and epochs=5.",
        "batch_size": "batch_size=9 must be between 1 and n=4.",
        "keep": "keep[0]='validation_loss' must be one of params, loss, accuracy, predictions, outcome, "
        "solved_epoch, epochs, history.",
    }


def test_what_a_store_asks_for_is_told_by_its_key(tmp_path):
    options = read_plan(written(tmp_path, "")).options
    for hparams, optimizer in (({}, "contrib.sophia"), ({"momentum": 0.9}, "adam")):
        with pytest.raises(ValueError, match=r"^(optimizer='contrib.sophia' can't be|axes.momentum: the)"):
            build_setup({**options, "optimizer": optimizer}, {"learning_rate": 0.1, **hparams})


def test_a_file_may_begin_with_the_mark_of_an_editor(tmp_path):
    assert read_plan(written(tmp_path, "\ufeffseeds = 3\r\nepochs = 5\r\n")).seeds == range(3)


@pytest.mark.parametrize(
    ("value", "axis"), [("0.1", 0.1), ("'0.1'", 0.1), ("[0.1]", [0.1]), ("'1,2'", [1.0, 2.0])]
)
def test_one_number_is_shared_and_a_list_is_an_axis(value, axis, tmp_path):
    assert read_plan(written(tmp_path, f"[axes]\nmomentum = {value}")).axes["momentum"] == axis


LONG = b"epochs = 1" + 5_000 * b"0"  # digits, more than Python reads


@pytest.mark.parametrize("content", [b"seeds = ", b"\xff", b"[" * 5_000, b"a = 1\na = 2", LONG])
def test_what_is_no_toml(content, tmp_path):
    path = tmp_path / "study.toml"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="is not TOML: "):
        read_plan(path)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
keys = st.sampled_from([*KEYS, "axes"]) | st.text(max_size=6)


@settings(max_examples=20)
@given(st.dictionaries(keys, values, max_size=4))
def test_whatever_is_given_is_a_plan_or_has_problems_of_keys_that_were_given(given_values):
    plan, errors = build_plan(given_values)
    assert (plan is None) == bool(errors)
    for error in errors:
        assert str(error)
        assert error.key in {*given_values, ""} or error.key.startswith("axes.")


@settings(max_examples=5)
@given(
    seeds=st.integers(1, 2**32),
    epochs=st.integers(1, 2**30),
    units=st.integers(1, 8),
    rates=st.lists(st.floats(2**-10, 4.0, width=32), min_size=1, max_size=4, unique=True),
)
def test_a_plan_reads_back_what_was_written(seeds, epochs, units, rates):
    text = f"seeds = {seeds}\nepochs = {epochs}\nhidden_units = {units}\n[axes]\nlearning_rate = {rates!r}\n"
    plan, problems = build_plan(tomllib.loads(text))
    assert problems == []
    assert plan is not None
    assert (len(plan.seeds), plan.options["epochs"], plan.options["hidden_units"]) == (seeds, epochs, units)
    assert plan.axes["learning_rate"] == rates

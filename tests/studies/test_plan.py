"""Studies in words: what a file may say, and all that may be wrong with it."""

import re
import tomllib
from pathlib import Path

import jax
import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from xorjax.studies.plan import HOW, REST, PlanError, checked, from_store, kept, read_file, setup_of

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
unit = 64

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
    plan = read_file(written(tmp_path, WHOLE))
    assert plan.seeds == range(5, 900)
    assert plan.axes == {"learning_rate": [0.1, 0.4, 0.7, 1.0], "b1": 0.8, "b2": [0.9, 0.99]}
    assert (plan.store, plan.keep, plan.unit) == ("runs/a.zarr", ["loss", "history"], 64)
    setup = setup_of(plan.how, {"learning_rate": 0.1, "b1": 0.8, "b2": 0.9})
    assert setup.network == "3-4-1"
    assert (setup.trainer.epochs, setup.trainer.stops, setup.trainer.recorded) == (1_000, True, (0, 10, 1_000))
    state = jax.eval_shape(setup.trainer.init, jax.random.key(0), {"learning_rate": 0.1, "b1": 0.8, "b2": 0.9})
    assert state.params[0].kernel.shape == (3, 4)
    assert state.key_shuffle is None


def test_the_plans_that_are_shown_are_right(tmp_path):
    root = Path(__file__).parents[2]
    million = read_file(root / "examples/xor_million.toml")
    assert (len(million.seeds), million.how["epochs"], million.axes) == (10**6, 100_000, {"learning_rate": 0.01})
    (shown,) = re.findall(r"```toml\n(.*?)```", (root / "README.md").read_text(encoding="utf-8"), re.S)
    plan = read_file(written(tmp_path, shown))
    assert isinstance(rates := plan.axes["learning_rate"], list)
    assert len(rates) == 10


def test_an_empty_plan_is_the_tutorial(tmp_path):
    plan = read_file(written(tmp_path, ""))
    assert plan.seeds == range(10_000)
    assert plan.axes == {"learning_rate": 0.01}
    assert plan.how == {name: key.default for name, key in HOW.items()}


@pytest.mark.lenient
def test_what_a_store_keeps_of_a_plan_makes_the_same_trainer(tmp_path):
    plan = read_file(written(tmp_path, WHOLE))
    assert from_store(kept(plan)) == plan.how
    for wrong in ({**kept(plan), "data": "SHA-256 of another"}, {**kept(plan), "task": "and"}, {"epochs": 3}):
        with pytest.raises(PlanError, match="the plan in the store is not one of this version"):
            from_store(wrong)
    with pytest.raises(PlanError, match="made in Python"):
        from_store(None)


WRONG = {
    "an unknown key": ("epoch = 3", "line 1: 'epoch' is not a key of a study; did you mean 'epochs'?"),
    "a key like no other": ("\n\nwhatever = 3", "line 3: 'whatever' is not a key of a study; known are task, "),
    "epochs in words": ("epochs = 'many'", "line 1: epochs='many' must be an integer."),
    "no epochs": ("epochs = 0", "line 1: epochs=0 must be between 1 and 1073741824."),
    "half an epoch": ("epochs = 0.5", "line 1: epochs=0.5 must be an integer."),
    "a truth for a number": ("epochs = true", "line 1: epochs=True must be an integer."),
    "no seeds": ("seeds = 0", "line 1: seeds=0 must be between 1 and 4294967296."),
    "seeds backwards": ("seeds = '9:5'", "line 1: seeds: '9:5' must name at least one seed"),
    "an unknown task": ("task = 'and'", "line 1: task: 'and' must be xor, parity:3"),
    "a task of numbers": ("task = 110", "line 1: task=110 must be a text."),
    "an unknown optimizer": ("optimizer = 'sdg'", "did you mean 'sgd'?"),
    "an unknown activation": ("hidden = 'sigmod'", "line 1: hidden='sigmod' must be one of"),
    "a loss of no name": ("loss = 'mae'", "line 1: loss='mae' must be one of mse, sigmoid_cross_entropy"),
    "shuffle in words": ("shuffle = 'no'", "line 1: shuffle='no' must be true or false."),
    "all held out": ("validation_split = 1.0", "line 1: validation_split=1.0 must be a number between 0 and 1."),
    "one thing to keep": ("keep = 'loss'", "line 1: keep='loss' must be a list of names"),
    "records in words": ("record_at = 'often'", "line 1: record_at='often' must be a list of epochs."),
    "a record too late": ("epochs = 5\nrecord_at = [9]", "line 2: record_at[0]=9 must be between 0 and epochs=5."),
    "two ways to record": (
        "record_every = 9\nrecord_at = [9]",
        "record_every=9 and record_at=[9] are given",
    ),
    "a batch too large": ("batch_size = 9", "line 1: batch_size=9 must be between 1 and n=4."),
    "units of none": ("unit = 0", "line 1: unit=0 must be between 1 and 16777216."),
    "axes that are no table": ("axes = 3", "line 1: axes=3 must be a table, [axes], of hyper-parameters."),
    "an unknown axis": (
        "[axes]\nmomentun = 0.9",
        "line 2: axes='momentun' must be one of learning_rate",
    ),
    "momentum for adam": ("optimizer = 'adam'\n[axes]\nmomentum = 0.9", "line 3: axes='momentum' must be one of"),
    "an axis of words": ("[axes]\nmomentum = 'big'", "line 2: axes.momentum: 'big' must be a number"),
    "an axis of truths": ("[axes]\nmomentum = [true]", "line 2: axes.momentum=[True] must be a number, a list"),
    "an empty axis": ("[axes]\nmomentum = []", "line 2: axes.momentum=[] must be a number, a list"),
    "no number": ("[axes]\nmomentum = nan", "line 2: axes.momentum=nan must be a number"),
    "a value twice": (
        "[axes]\nmomentum = [0.1, 0.1]",
        "line 2: axes.momentum=[0.1, 0.1] must hold each value once",
    ),
    "infinite in 32 bits": ("[axes]\nmomentum = 1e39", "line 2: axes.momentum=1e+39 must be a number, a list"),
    "infinite values": ("[axes]\nmomentum = [1, -1e39]", "line 2: axes.momentum=[1, -1e+39] must be a number, a"),
    "an infinite range": ("[axes]\nmomentum = '0:1e39:3'", "line 2: axes.momentum: 1e+39 is not a finite number"),
    "a number of 401 digits": ("[axes]\nmomentum = 1" + 400 * "0", "line 2: axes.momentum=10000"),
    "a field that is none": ("\nkeep = ['loss', 'lost']", "line 2: keep[1]='lost' must be one of params, loss, "),
    "records of none": ("unit = 8\nkeep = ['history']", "line 2: keep[0]='history' must be one of params, loss, "),
    "a store with a NUL": ('store = "a\\u0000b"', "line 1: store='a\\x00b' must be a text without control chara"),
    "an optimizer that wants more": (
        "optimizer = 'contrib.sophia'",
        "line 1: optimizer='contrib.sophia' can't be ",
    ),
    "an axis in a table in a line": ("\naxes = {learning_rate = nan}", "line 2: axes.learning_rate=nan must be"),
    "an axis that is a table": ("[axes]\n[axes.learning_rate]\na = 1", "line 2: axes.learning_rate={'a': 1} must"),
    "axes that are tables": ("unit = 8\n[[axes]]\nb1 = 1", "line 2: axes=[{'b1': 1}] must be a table"),
    "an axis with dots": ("unit = 8\n\"axes\" . 'learning_rate' = nan", "line 2: axes.learning_rate=nan must"),
    "an escaped key": ('unit = 8\n"epo\\u0063hs" = 0', "line 2: epochs=0 must be between"),
    "a key like a text's line": ('store = """\\\n epochs = 3 # [""\\""""\nepochs = 0', "line 3: epochs=0 must be"),
    "a text as it stands": ("store = '''\n\\[''[axes]''''\nepochs = 0", "line 3: epochs=0 must be between"),
    "a key like a list's line": ("keep = [\n'loss', # ]\n'''epochs''']\nepochs = 0", "line 4: epochs=0 must be"),
    "a quote in a comment": ('# it\'s [\nstore = "#\'[" # "\nepochs = 0', "line 3: epochs=0 must be between"),
    "values too close": (
        "[axes]\nmomentum = [1.0, 1.000000001]",
        "must hold each value once, in float32",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_files_say_what_is_wrong_and_where(name, tmp_path):
    text, what = WRONG[name]
    path = written(tmp_path, text)
    with pytest.raises(PlanError) as error:
        read_file(path)
    first, problem = str(error.value).split("\n")
    assert first == f"{path} has 1 problem:"
    assert what in problem


def test_all_problems_are_told_at_once_in_the_order_of_their_lines(tmp_path):
    text = "stop = 'now'\nepochs = 0\n[axes]\nlearning_rate = 'fast'\nmomentum = []\n"
    with pytest.raises(PlanError) as error:
        read_file(written(tmp_path, text))
    first, *lines = str(error.value).split("\n")
    assert first.endswith("has 4 problems:")
    assert [line.partition(":")[0] for line in lines] == ["line 1", "line 2", "line 4", "line 5"]


def test_keys_that_do_not_fit_together_are_told_at_once(tmp_path):
    with pytest.raises(PlanError) as error:
        read_file(written(tmp_path, "record_at = [10]\nepochs = 5\nbatch_size = 9\nkeep = ['validation_loss']\n"))
    assert str(error.value).split("\n")[1:] == [
        "line 1: record_at[0]=10 must be between 0 and epochs=5.",
        "line 3: batch_size=9 must be between 1 and n=4.",
        "line 4: keep[0]='validation_loss' must be one of params, loss, accuracy, predictions, outcome, "
        "solved_epoch, epochs, history.",
    ]


def test_what_a_store_asks_for_is_told_by_its_key(tmp_path):
    how = read_file(written(tmp_path, "")).how
    for hparams, asked in (({}, "contrib.sophia"), ({"momentum": 0.9}, "adam")):
        with pytest.raises(typer.BadParameter, match=r"^(optimizer='contrib.sophia' can't be|momentum=0.9: the)"):
            setup_of({**how, "optimizer": asked}, {"learning_rate": 0.1, **hparams})


def test_a_file_may_begin_with_the_mark_of_an_editor(tmp_path):
    assert read_file(written(tmp_path, "\ufeffseeds = 3\r\nepochs = 5\r\n")).seeds == range(3)


@pytest.mark.parametrize(
    ("value", "axis"), [("0.1", 0.1), ("'0.1'", 0.1), ("[0.1]", [0.1]), ("'1,2'", [1.0, 2.0])]
)
def test_one_number_is_shared_and_a_list_is_an_axis(value, axis, tmp_path):
    assert read_file(written(tmp_path, f"[axes]\nmomentum = {value}")).axes["momentum"] == axis


LONG = b"epochs = 1" + 5_000 * b"0"  # digits, more than Python reads


@pytest.mark.parametrize("content", [b"seeds = ", b"\xff", b"[" * 5_000, b"a = 1\na = 2", LONG])
def test_what_is_no_toml(content, tmp_path):
    path = tmp_path / "study.toml"
    path.write_bytes(content)
    with pytest.raises(PlanError, match="is not TOML: "):
        read_file(path)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
keys = st.sampled_from([*HOW, *REST, "axes"]) | st.text(max_size=6)


@given(st.dictionaries(keys, values, max_size=4))
def test_whatever_is_given_is_a_plan_or_has_problems_of_keys_that_were_given(given_values):
    plan, problems = checked(given_values)
    assert (plan is None) == bool(problems)
    for problem in problems:
        assert problem.what
        assert problem.key in {*given_values, ""} or problem.key.startswith("axes.")


@given(
    seeds=st.integers(1, 2**32),
    epochs=st.integers(1, 2**30),
    units=st.integers(1, 8),
    rates=st.lists(st.floats(2**-10, 4.0, width=32), min_size=1, max_size=4, unique=True),
)
def test_a_plan_reads_back_what_was_written(seeds, epochs, units, rates):
    text = f"seeds = {seeds}\nepochs = {epochs}\nhidden_units = {units}\n[axes]\nlearning_rate = {rates!r}\n"
    plan, problems = checked(tomllib.loads(text))
    assert problems == []
    assert plan is not None
    assert (len(plan.seeds), plan.how["epochs"], plan.how["hidden_units"]) == (seeds, epochs, units)
    assert plan.axes["learning_rate"] == rates

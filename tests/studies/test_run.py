"""Studies: the same bits as an ensemble, resumed, extended, and told apart; read by xarray alone."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import optax
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from studies.study_files import contents
from zarr.storage import FsspecStore, MemoryStore

import xorjax as xj
from xorjax.studies.claims import list_claims
from xorjax.studies.identity import DifferentStudyError
from xorjax.studies.store import manifest
from xorjax.studies.store.access import read_bytes
from xorjax.studies.store.layout import Layout, Variable, choose_shard_shape, default_shard_size
from xorjax.studies.store.seed_ranges import count_seeds, extend_ranges, find_seed, seeds_at

EVERY = ["loss", "accuracy", "outcome", "solved_epoch", "epochs", "predictions", "params", "history"]


def made(epochs=60, **options):
    return xj.trainer(
        xj.mlp((2, 2, 1)),
        xj.xor(),
        lambda h: optax.sgd(h["learning_rate"], h["momentum"]),
        epochs=epochs,
        **options,
    )


TRAINER = made(record_every=20, record=["params"], stop="solved", solved=lambda y_hat, y, loss: loss < 0.25)
AXES = {"learning_rate": [0.1, 0.5, 2.0], "momentum": 0.9}


def study(store, seeds=range(20), axes=AXES, trainer=TRAINER, **options):
    return xj.run_study(trainer, seeds, axes, store=store, **{"shard_size": 8, **options})


def the_same(dataset, results, **at):
    """Whether what a dataset has at these values is an ensemble's results, bit for bit."""
    part = dataset.sel(at)
    for name in ("loss", "accuracy", "outcome", "solved_epoch", "epochs", "predictions"):
        np.testing.assert_array_equal(part[name].values, getattr(results, name), err_msg=name)
    np.testing.assert_array_equal(part["params/1/kernel"].values, results.params[1].kernel)
    np.testing.assert_array_equal(part["history/loss"].values, results.history.loss)
    np.testing.assert_array_equal(part["history/params/0/bias"].values, results.history.params[0].bias)


def test_a_study_is_the_ensembles_of_its_combinations(tmp_path):
    dataset = study(tmp_path / "a.zarr", keep=EVERY)
    assert dict(dataset.sizes) | {"learning_rate": 3, "seed": 20, "record": 3} == dict(dataset.sizes)
    assert dataset.loss.dims == ("learning_rate", "seed")
    np.testing.assert_array_equal(dataset.record, [0, 20, 40])
    for rate in AXES["learning_rate"]:
        results = xj.train_ensemble(TRAINER, range(20), {"learning_rate": rate, "momentum": 0.9})
        the_same(dataset, results, learning_rate=rate)


@pytest.mark.parametrize("size", [3, pytest.param(1, marks=pytest.mark.slow)])
def test_no_bit_depends_on_the_shards(size, tmp_path):
    whole = study(tmp_path / "whole.zarr", shard_size=4_096)
    in_parts = study(tmp_path / "parts.zarr", shard_size=size)
    assert whole.drop_attrs().identical(in_parts.drop_attrs())


def test_a_second_call_trains_nobody_and_changes_no_byte(tmp_path):
    seen = []
    study(tmp_path / "a.zarr")
    before = contents(tmp_path / "a.zarr")
    study(tmp_path / "a.zarr", progress=seen.append)
    assert seen[-1].trained == 0
    assert seen[-1].committed == seen[-1].total == 60
    assert contents(tmp_path / "a.zarr") == before


def test_an_interrupted_study_goes_on_and_is_the_uninterrupted_one(tmp_path):
    def interrupt(at):
        if at.trained:
            raise KeyboardInterrupt

    seen = []
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            study(tmp_path / "a.zarr", progress=interrupt)
    missing = int(np.isnan(xj.open_study(tmp_path / "a.zarr").outcome).sum())
    assert 0 < missing < 60
    study(tmp_path / "a.zarr", progress=seen.append)
    assert seen[-1].trained == missing
    assert [at.done for at in seen] == sorted(at.done for at in seen)
    study(tmp_path / "b.zarr")
    assert contents(tmp_path / "a.zarr") == contents(tmp_path / "b.zarr")


WIDER = {
    "seeds at both ends": (range(5, 33), AXES, 24),
    "more seeds and values": (range(40), {**AXES, "learning_rate": [2.0, 0.5, 0.1, 1.0]}, 100),
}


@pytest.mark.parametrize(
    "name", ["more seeds and values", pytest.param("seeds at both ends", marks=pytest.mark.slow)]
)
def test_a_wider_study_trains_the_new_members_alone(name, tmp_path):
    seeds, axes, new = WIDER[name]
    seen = []
    study(tmp_path / "a.zarr", range(10, 30))
    dataset = study(tmp_path / "a.zarr", seeds, axes, progress=seen.append)
    assert seen[-1].trained == new
    assert not np.isnan(dataset.outcome).any()
    fresh = study(tmp_path / "b.zarr", seeds, axes)
    assert dataset.drop_attrs().identical(fresh.drop_attrs())
    np.testing.assert_array_equal(dataset.seed, list(seeds))


OTHERS = {
    "epochs": ({"trainer": made(61)}, "epochs: 60 in the store, 61 asked for"),
    "another program": ({"trainer": made(60, batch_size=2)}, "program: "),
    "another shared value": (
        {"axes": {**AXES, "momentum": 0.8}},
        "shared.momentum: 0.9 in the store, 0.8 asked for",
    ),
    "another axis": ({"axes": {"learning_rate": [0.1, 0.5, 2.0], "momentum": [0.9]}}, "axes: "),
    "another engine": ({"engine": "vmap"}, "engine: 'lanes' in the store, 'vmap' asked for"),
    "another keep": ({"keep": ["loss"]}, "keep: "),
    "fewer seeds": (
        {"seeds": range(10)},
        "its seeds are range(0, 20); they can be extended at either end, not cut",
    ),
    "fewer values": ({"axes": {**AXES, "learning_rate": [0.1]}}, "axes['learning_rate'] lacks [0.5, 2.0]"),
}


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """The folder of a study of plain SGD, which no test changes."""
    store = tmp_path_factory.mktemp("plain") / "a.zarr"
    with jax.numpy_dtype_promotion("strict"):
        study(store, trainer=made())
    return store


@pytest.mark.parametrize("name", OTHERS)
def test_two_studies_never_mix(name, plain):
    how, what = OTHERS[name]
    before = contents(plain)
    with pytest.raises(ValueError, match=r"holds another study|can be extended") as error:
        study(plain, **{"trainer": made(), **how})
    assert what in str(error.value)
    assert len(str(error.value)) < 600
    assert contents(plain) == before


def test_the_difference_of_two_programs_is_kept_apart(plain):
    with pytest.raises(
        DifferentStudyError, match=r"program: '[0-9a-f]{12}' in the store, '[0-9a-f]{12}'"
    ) as error:
        study(plain, trainer=made(batch_size=2))
    lines = error.value.program.splitlines()
    assert {line[0] for line in lines} == {"+", "-"}
    assert len(lines) > 2


@pytest.mark.slow
def test_a_description_is_the_same_after_other_work(tmp_path):
    study(tmp_path / "a.zarr")
    code = (
        "import sys; sys.path[:0] = sys.argv[2:]; import test_run as t; "
        "t.study(sys.argv[1], progress=lambda at: print(at.trained))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "a.zarr"), *map(str, Path(__file__).parents[:2])],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split() == ["0"], done.stderr


def test_workers_by_number_share_the_shards(tmp_path):
    trained = []
    for worker in ("1/3", (3, 3), "2/3"):
        seen = []
        study(tmp_path / "a.zarr", worker=worker, progress=seen.append)
        trained.append(seen[-1].trained)
        assert seen[-1].committed == seen[-1].total
    assert sum(trained) == 60
    assert min(trained) > 0
    study(tmp_path / "b.zarr")
    assert contents(tmp_path / "a.zarr") == contents(tmp_path / "b.zarr")


def test_workers_by_number_claim_what_they_do(tmp_path):
    seen = []
    study(
        tmp_path / "a.zarr", worker="1/3", progress=lambda at: seen.append(list(list_claims(tmp_path / "a.zarr")))
    )
    assert max(map(len, seen)) > 0  # from others, who may have more seeds
    assert list_claims(tmp_path / "a.zarr") == {}


def test_an_extension_that_was_cut_short_is_mended(tmp_path, monkeypatch):
    def cut_short(store, key, document):
        if key == "zarr.json":
            raise KeyboardInterrupt
        write(store, key, document)

    study(tmp_path / "a.zarr")
    write = manifest._write_json
    monkeypatch.setattr(manifest, "_write_json", cut_short)
    with pytest.raises(KeyboardInterrupt):
        study(tmp_path / "a.zarr", range(50))
    monkeypatch.undo()
    assert xj.open_study(tmp_path / "a.zarr").sizes["seed"] == 20
    study(tmp_path / "a.zarr")
    assert xj.studies.verify_study(tmp_path / "a.zarr").is_sound


def test_raw_access_runs_in_the_event_loop_of_zarr_s_arrays(tmp_path):
    class Noted(MemoryStore):
        async def get(self, key, *args, **options):
            loops.add(asyncio.get_running_loop())
            return await super().get(key, *args, **options)

    loops = set()
    store = Noted()
    zarr.create_array(store, shape=(3,), dtype="f4")[:] = 1.0
    assert read_bytes(store, "zarr.json")
    assert np.asarray(zarr.open_array(store)).sum() == 3
    assert len(loops) == 1


def test_any_store_of_zarr(tmp_path):
    memory = MemoryStore()
    seeds = range(8)
    in_memory = study(memory, seeds, keep=EVERY)
    by_fsspec = study("memory://studies/b.zarr", seeds, keep=EVERY)
    files = FsspecStore.from_url(f"file://{tmp_path}/b.zarr", storage_options={"auto_mkdir": True})
    in_files = study(files, seeds, keep=EVERY)
    local = study(f"file://{tmp_path}/c.zarr", seeds, keep=EVERY)
    assert (tmp_path / "c.zarr/claims").exists()
    for dataset in (in_memory, by_fsspec, in_files):
        assert dataset.drop_attrs().identical(local.drop_attrs())
    seen = []
    study(memory, range(13), keep=EVERY, progress=seen.append)
    assert seen[-1].trained == 15


def test_xarray_alone_opens_it(tmp_path):
    study(tmp_path / "a.zarr", keep=EVERY, worker="1/2")  # half of it
    code = """
import json, sys
sys.modules["xorjax"] = sys.modules["jax"] = None
import numpy as np, xarray
dataset = xarray.open_zarr(sys.argv[1], chunks=None)
outcome = dataset.outcome
tree = xarray.open_datatree(sys.argv[1], engine="zarr", chunks=None)
print(json.dumps({
    "sizes": {name: dataset.sizes[name] for name in ("learning_rate", "seed", "record")},
    "missing": [int(np.isnan(dataset[name]).sum()) for name in ("outcome", "solved_epoch", "epochs", "loss")],
    "rates": dataset.learning_rate.values.tolist(),
    "units": dataset.solved_epoch.attrs["units"],
    "flags": outcome.attrs["flag_meanings"],
    "kernel": tree["params/0/kernel"].shape,
    "described": sorted(dataset.attrs["xorjax"]),
}))
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, str(tmp_path / "a.zarr")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    missing = int(np.isnan(xj.open_study(tmp_path / "a.zarr").outcome).sum())
    assert 0 < missing < 60
    assert found["missing"] == [missing] * 4
    assert found["sizes"] == {"learning_rate": 3, "seed": 20, "record": 3}
    assert found["rates"] == AXES["learning_rate"]
    assert (found["units"], found["flags"]) == ("epochs", "unsolved solved diverged unfinished")
    assert found["kernel"] == [3, 20, 2, 2]
    wanted = {
        "engine",
        "epochs",
        "plan",
        "platform",
        "precision",
        "program",
        "program_digest",
        "seed_rule",
        "versions",
    }
    assert wanted <= set(found["described"])


@pytest.mark.slow
def test_members_that_diverge_are_not_missing(tmp_path, quick_compiler):
    linear = xj.mlp((2, 2, 1), output="linear")
    trainer = xj.trainer(linear, xj.xor(), lambda h: optax.sgd(h["learning_rate"]), epochs=20)
    dataset = xj.run_study(trainer, range(5), {"learning_rate": [0.1, 1e30]}, store=tmp_path / "a.zarr")
    np.testing.assert_array_equal(dataset.outcome.sel(learning_rate=1e30), xj.Outcome.DIVERGED)
    assert np.isnan(dataset.loss.sel(learning_rate=1e30)).all()
    assert xj.studies.verify_study(tmp_path / "a.zarr", trainer).is_sound


def test_a_study_compiles_once(compilations, tmp_path):
    study(tmp_path / "a.zarr", seeds=range(100), shard_size=512)
    first = len(compilations)
    study(tmp_path / "b.zarr", seeds=range(333), shard_size=512)
    assert len(compilations) == first


@pytest.mark.slow
def test_what_is_observed_may_be_called_as_a_result_is(tmp_path, quick_compiler):
    trainer = made(record_every=20, observe=lambda params, h: {"predictions": params[0].bias})
    dataset = study(tmp_path / "a.zarr", trainer=trainer, keep=["history"])
    history = xj.train_ensemble(trainer, range(20), {"learning_rate": 0.5, "momentum": 0.9}).history
    assert history is not None
    stored = dataset["history/observed/predictions"].sel(learning_rate=0.5)
    np.testing.assert_array_equal(stored, history.observed["predictions"])


def test_a_model_of_dictionaries_keeps_its_names(tmp_path, quick_compiler):
    def init(key):
        return {"hidden": {"w": jax.random.normal(key, (2, 1))}, "b": jax.numpy.zeros(1)}

    model = xj.Model(init, lambda p, x: jax.nn.sigmoid(x @ p["hidden"]["w"] + p["b"][None]))
    trainer = xj.trainer(model, xj.xor(), optax.sgd(0.1), epochs=3)
    dataset = xj.run_study(trainer, range(5), store=tmp_path / "a.zarr", keep=["params"])
    found = xj.train_ensemble(trainer, range(5))
    np.testing.assert_array_equal(dataset["params/hidden/w"], found.params["hidden"]["w"])
    bad = xj.Model(lambda key: {"../b": init(key)}, lambda p, x: model.apply(p["../b"], x))
    with pytest.raises(ValueError, match=r"'params/\.\./b/b' can't be kept"):
        xj.run_study(xj.trainer(bad, xj.xor(), optax.sgd(0.1), epochs=3), range(1), store=tmp_path / "b.zarr")
    assert not (tmp_path / "b.zarr").exists()


WRONG = {
    "no trainer": ({"trainer": 3}, TypeError, "trainer must come from xj.trainer"),
    "a worker too many": ({"worker": "4/3"}, ValueError, "worker[0]=4 must be between 1 and"),
    "a worker in words": ({"worker": "first"}, ValueError, "worker='first' must be two integers"),
    "no lease": ({"lease_seconds": 0}, ValueError, "lease_seconds=0 must be above 0"),
    "a lease for ever": ({"lease_seconds": np.inf}, ValueError, "lease_seconds=inf must be above 0, and at most"),
    "a plan that is an object": (
        {"plan": {"made": object()}},
        TypeError,
        "must be words and numbers that JSON has",
    ),
    "a bar of text": ({"progress": "bar"}, TypeError, "progress='bar' must be True, False, or a function"),
    "seeds in a list": ({"seeds": [3, 4, 9]}, TypeError, "seeds=[3, 4, 9] must be a range of consecutive seeds"),
    "every other seed": ({"seeds": range(0, 9, 2)}, TypeError, "seeds=range(0, 9, 2) must be a range of"),
    "no seeds": ({"seeds": range(0)}, ValueError, "seeds must hold at least one seed"),
    "axes in a list": ({"axes": [("momentum", 0.9)]}, TypeError, "must be a dictionary of numbers, or lists"),
    "an axis called seed": ({"axes": {"seed": [1]}}, ValueError, "axes has the name 'seed'"),
    "an axis called seeds": ({"axes": {"seeds": [1]}}, ValueError, "axes has the name 'seeds'"),
    "an axis of two words": ({"axes": {"a b": [1]}}, ValueError, "axes has the name 'a b'"),
    "an axis of words": ({"axes": {"a": ["x"]}}, TypeError, "axes['a'] must be real numbers"),
    "an empty axis": ({"axes": {"learning_rate": [], "momentum": 0}}, ValueError, "axes['learning_rate']=[] must"),
    "an infinite value": ({"axes": {"momentum": [np.inf]}}, ValueError, "axes['momentum']=[inf] must be a finite"),
    "a value twice": (
        {"axes": {"momentum": [1, 1]}},
        ValueError,
        "axes['momentum']=[1, 1] must hold each value once",
    ),
    "values that are one": (
        {"axes": {"momentum": [0.5, 0.5 + 2**-40]}},
        ValueError,
        "axes['momentum']=[0.5, 0.5000000000009095] must hold each value once, in float32",
    ),
    "a value that becomes infinite": (
        {"axes": {"momentum": 1e39}},
        ValueError,
        "axes['momentum']=1e+39 must be a",
    ),
    "an axis like an axis of a variable": (
        {"axes": {**AXES, "row": [1.0]}},
        ValueError,
        "axes has the name 'row', which 'predictions' has in a store",
    ),
    "an axis like a variable": ({"axes": {**AXES, "loss": [1.0]}}, ValueError, "axes has the name 'loss'"),
    "an unknown thing to keep": ({"keep": ["lost"]}, ValueError, "keep[0]='lost' must be one of"),
    "one thing to keep": ({"keep": "loss"}, TypeError, "keep='loss' must be a list"),
    "too many shards": (
        {"seeds": range(2**32), "shard_size": 1},
        ValueError,
        "shards of 1 members, of which 1,048,576",
    ),
    "too much in a shard": (
        {"trainer": made(20_000, record_every=1), "shard_size": 2**20, "seeds": range(2**20)},
        ValueError,
        "of which 2,147,483,648 values are allowed; shard_size= must be smaller",
    ),
    "shards of none": ({"shard_size": 0}, ValueError, "shard_size=0 must be between 1 and"),
    "a number for a store": ({"store": 3}, TypeError, "store=3 must be a folder, a URL, or a store of zarr"),
    "no name for a store": ({"store": ""}, TypeError, "store='' must be a folder"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_studies_say_what_is_wrong_and_write_nothing(name, tmp_path):
    how, kind, what = WRONG[name]
    with pytest.raises(kind) as error:
        study(**{"store": tmp_path / "a.zarr", **how})
    assert what in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_shards_are_neighbours_of_about_the_size_asked_for():
    assert choose_shard_shape([10, 10, 1_000], 16_384) == (1, 16, 1_024)
    assert choose_shard_shape([10, 10, 100_000], 16_384) == (1, 1, 16_384)
    assert choose_shard_shape([3], 16_384) == (16_384,)  # room for more seeds
    assert choose_shard_shape([2, 10], 16_384) == (2, 8_192)
    assert choose_shard_shape([2, 10], 2**24) == (2, 8_192)
    assert choose_shard_shape([512, 512, 1], 16_384) == (32, 512, 1)
    assert choose_shard_shape([3, 5], 1) == (1, 1)
    layout = Layout({"a": 5, "seed": 10}, (2, 4), (), None)
    seen = np.zeros(layout.shape, int)
    for shard in range(layout.n_shards):
        seen[layout.region(shard)] += 1
    assert (seen == 1).all()


def test_shards_are_smaller_where_much_is_kept():
    small, large = Variable("outcome", "int8", (), ()), Variable("history/loss", "float32", ("record",), (4_000,))
    assert default_shard_size([small]) == 16_384
    assert default_shard_size([small, large]) == 2**25 // 16_001


@settings(max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=4))
def test_members_stay_where_they_are_when_a_range_grows_at_either_end(steps):
    first, stop = 50, 53
    ranges, order = [[first, stop]], list(range(first, stop))
    for below, above in steps:
        first, stop = first - below, stop + above
        ranges = extend_ranges(ranges, range(first, stop))
        assert count_seeds(ranges) == stop - first
        seeds = seeds_at(ranges, np.arange(stop - first)).tolist()
        assert seeds[: len(order)] == order
        assert sorted(seeds) == list(range(first, stop))
        assert [find_seed(ranges, seed) for seed in seeds] == list(range(len(seeds)))
        order = seeds
    assert find_seed(ranges, stop) is None


def test_a_store_whose_seeds_are_a_list_is_read_but_not_extended():
    ranges = [[3, 5], [9, 10], [1, 2]]  # of an earlier version
    np.testing.assert_array_equal(seeds_at(ranges, np.arange(count_seeds(ranges))), [3, 4, 9, 1])
    with pytest.raises(ValueError, match="its seeds are not one range, so that it can be read, but not extended"):
        extend_ranges(ranges, range(20))


def test_a_billion_members_are_shards_too():
    layout = Layout({"seed": 10**9}, (2**14,), (), None)
    assert layout.n_shards == 61_036
    assert layout.region(61_035) == (slice(999_997_440, 10**9),)


@pytest.mark.slow
def test_a_million_members_need_no_more_memory_than_a_hundred_thousand(tmp_path):
    def peak_megabytes(members):
        code = (
            "import resource, sys, optax, xorjax as xj\n"
            "from xorjax.studies.run import describe_study, train_study\n"
            "trainer = xj.trainer(xj.mlp((2, 2, 1)), xj.xor(), optax.sgd(0.1), epochs=1)\n"
            "seen = []\n"
            f"asked = describe_study(trainer, range({members}), None, sys.argv[1])\n"
            "stored = train_study(trainer, asked, progress=seen.append)\n"
            f"assert seen[-1].trained == stored.layout.members == {members}\n"
            "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)\n"
        )
        command = [sys.executable, "-c", code, str(tmp_path / f"{members}.zarr")]
        return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    peak_megabytes(1_000)  # compiling takes more memory than either
    assert peak_megabytes(1_000_000) < peak_megabytes(100_000) + 50


def test_progress_is_a_bar_of_tqdm(tmp_path, capsys):
    study(tmp_path / "a.zarr", progress=True)
    err = capsys.readouterr().err
    for part in ("study: 100%", "60.0/60.0", " members/s", "81.7 % solved (70.08 to 89.44 %)"):
        assert part in err

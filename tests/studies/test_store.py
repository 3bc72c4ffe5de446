"""The store of a study: no fault of a file system loses what is committed, and nothing in a store is trusted."""

import errno
import json
import os
import shutil
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import optax
import pytest
import zarr
from studies.study_files import contents

import xorjax as xj
from xorjax.studies import status
from xorjax.studies.claims import Claims
from xorjax.studies.store import durable, shards
from xorjax.studies.store.access import StoreError
from xorjax.studies.store.durable import remove_partial
from xorjax.studies.store.layout import MISSING_OUTCOME, OUTCOME, Layout, list_variables, node_documents
from xorjax.studies.store.manifest import find_study
from xorjax.studies.store.shards import commit_shard, delete_shard, find_committed
from xorjax.studies.verify import repair_study, verify_study

TRAINER = xj.trainer(xj.mlp((2, 2, 1)), xj.xor(), optax.sgd(0.5), epochs=4)
KEPT = ["loss", "outcome", "epochs", "params"]
N = 10


@pytest.fixture(scope="module")
def results():
    return xj.train_ensemble(TRAINER, range(N))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A finished study of three shards, the last of which is not full."""
    root = tmp_path_factory.mktemp("studies") / "a.zarr"
    xj.run_study(TRAINER, range(N), store=root, keep=KEPT, shard_size=4)
    return root


def copied(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "a.zarr")


def stored_in(root):
    return find_study(root, read_only=False)


def values_of(results, part):
    kernel, bias = results.params[0]
    last_kernel, last_bias = results.params[1]
    of_all = {
        "loss": results.loss,
        "outcome": results.outcome,
        "epochs": results.epochs,
        "params/0/kernel": kernel,
        "params/0/bias": bias,
        "params/1/kernel": last_kernel,
        "params/1/bias": last_bias,
    }
    return {name: np.asarray(values)[part] for name, values in of_all.items()}


class Killed(BaseException):
    """The process ends here: nothing is cleaned up."""


class Disk:
    """The steps by which a file is written durably, of which the one with this number fails; 0 is none."""

    STEPS = ("fsync", "replace", "close")

    def __init__(self, monkeypatch, number=0, error: BaseException = Killed()):  # noqa: B008
        self.number, self.error, self.count = number, error, 0
        monkeypatch.setattr(durable, "os", self)
        monkeypatch.setattr(durable, "open", self.open_file, raising=False)

    def step(self):
        self.count += 1
        if self.count == self.number:
            raise self.error

    def __getattr__(self, name):
        call = getattr(os, name)
        if name == "unlink" and isinstance(self.error, Killed):
            return lambda path: None
        if name not in self.STEPS:
            return call

        def counted(*args):
            if name == "close":
                call(*args)
                self.step()
                return None
            self.step()
            return call(*args)

        return counted

    @contextmanager
    def open_file(self, path, mode):
        self.step()
        with open(path, mode) as file:
            write = file.write

            def write_half(content):
                write(content[: len(content) // 2])
                self.step()
                write(content[len(content) // 2 :])

            yield SimpleNamespace(write=write_half, flush=file.flush, fileno=file.fileno)


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), Killed()], ids=["disk full", "killed"]
)
def test_a_commit_that_is_cut_short_at_any_step_loses_nothing(error, results, tmp_path, monkeypatch):
    root = tmp_path / "a.zarr"
    xj.run_study(TRAINER, range(6), store=root, keep=["loss"], shard_size=4)
    reference = contents(root)
    study = find_study(root, read_only=False)
    values = {name: each[4:6] for name, each in (("loss", results.loss), ("outcome", results.outcome))}
    delete_shard(study, 1)
    commit_shard(study, 1, np.array([True, False]), {name: each[:1] for name, each in values.items()})
    half = {path: path.read_bytes() for path in root.glob("*/c.1")}
    disk = Disk(monkeypatch)
    commit_shard(study, 1, np.array([False, True]), {name: each[1:] for name, each in values.items()})
    monkeypatch.undo()
    assert disk.count == 6 * len(study.layout.variables)
    for number in range(1, disk.count + 1):
        for path, content in half.items():
            path.write_bytes(content)
        Disk(monkeypatch, number, error)
        with pytest.raises(type(error), match=None if isinstance(error, Killed) else str(root)):
            commit_shard(study, 1, np.array([False, True]), {name: each[1:] for name, each in values.items()})
        monkeypatch.undo()
        assert find_committed(study, 0).all()
        assert find_committed(study, 1)[0]  # committed before
        assert verify_study(root).damaged == []
        commit_shard(study, 1, np.array([False, True]), {name: each[1:] for name, each in values.items()})
        remove_partial(root, np.inf)
        assert contents(root) == reference


def test_the_content_is_on_the_disk_before_its_name(tmp_path, monkeypatch):
    calls = []
    for name in ("fsync", "replace"):
        call = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *args, call=call, name=name: (calls.append(name), call(*args))[1])
    durable.write_durably(tmp_path / "new/folder/file", b"content")
    assert (tmp_path / "new/folder/file").read_bytes() == b"content"
    assert calls == ["fsync", "replace", "fsync", "fsync", "fsync"]  # the file; then its folder, and two new names


def test_a_run_in_which_the_disk_is_full_goes_on_later(tmp_path, monkeypatch):
    root = tmp_path / "a.zarr"
    Disk(monkeypatch, 200, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    with pytest.raises(OSError, match="No space left on device") as error:
        xj.run_study(TRAINER, range(N), store=root, keep=KEPT, shard_size=2)
    assert str(root) in str(error.value.filename)
    monkeypatch.undo()
    seen = []
    xj.run_study(TRAINER, range(N), store=root, keep=KEPT, shard_size=2, progress=seen.append)
    assert seen[-1].trained < N
    xj.run_study(TRAINER, range(N), store=tmp_path / "b.zarr", keep=KEPT, shard_size=2)
    assert contents(root) == contents(tmp_path / "b.zarr")


def test_a_shard_of_which_some_are_committed_keeps_them(whole, results, tmp_path):
    stored = stored_in(copied(whole, tmp_path))
    delete_shard(stored, 0)
    first, others = np.array([True, False, False, True]), np.array([False, True, True, False])
    for which in (first, others):
        commit_shard(stored, 0, which, values_of(results, np.flatnonzero(which)))
    assert contents(tmp_path / "a.zarr") == contents(whole)


def test_who_lost_a_shard_commits_nothing(whole, results, tmp_path):
    stored = stored_in(copied(whole, tmp_path))
    delete_shard(stored, 1)
    values = values_of(results, slice(4, 8))
    assert not commit_shard(stored, 1, np.ones(4, bool), values, is_ours=lambda: False)
    assert not find_committed(stored, 1).any()


def test_a_flipped_bit_in_any_chunk_is_found_and_named(whole, tmp_path):
    root = copied(whole, tmp_path)
    chunks = sorted(path for path in root.rglob("c.*"))
    assert len(chunks) == 3 * len(stored_in(root).layout.variables) + 1
    rng = np.random.default_rng(0)
    for chunk in chunks:
        sound = chunk.read_bytes()
        for at in {0, len(sound) - 1, int(rng.integers(0, len(sound)))}:
            damaged = bytearray(sound)
            damaged[at] ^= 1 << int(rng.integers(8))
            chunk.write_bytes(damaged)
            found = verify_study(root)
            assert [line for line in found.damaged if str(chunk) in line], (chunk, at)
            assert len(found.damaged) == 1
        chunk.write_bytes(sound)
    assert verify_study(root).is_sound


HARM = {
    "cut short": lambda path: path.write_bytes(path.read_bytes()[:-5]),
    "empty": lambda path: path.write_bytes(b""),
    "another's": lambda path: path.write_bytes(os.urandom(200)),
    "not there": lambda path: path.unlink(),
}


@pytest.mark.parametrize("name", HARM)
def test_damage_is_repaired(name, whole, tmp_path):
    root = copied(whole, tmp_path)
    HARM[name](root / "params/0/kernel/c.1.0.0")
    found = verify_study(root)
    assert found.shards == ["1"]
    assert "params/0/kernel/c.1.0.0" in found.damaged[0]
    if name == "not there":
        with pytest.raises(StoreError, match=r"params/0/kernel/c.1.0.0 is missing, though its members are"):
            xj.run_study(TRAINER, range(N), store=root, keep=KEPT)
    repair_study(root, found)
    seen = []
    xj.run_study(TRAINER, range(N), store=root, keep=KEPT, progress=seen.append)
    assert seen[-1].trained == 4
    assert contents(root) == contents(whole)


def test_other_values_with_right_checksums_are_found_by_training_again(whole, tmp_path):
    root = copied(whole, tmp_path)
    array = zarr.open_array(root / "loss")
    array[3] = np.float32(1.0001) * np.asarray(array[3])
    assert verify_study(root).is_sound
    found = verify_study(root, TRAINER, sample=1_000)
    assert (found.replayed, found.differing, found.shards) == (N, ["loss of seed=3"], ["0"])
    assert verify_study(root, TRAINER, sample=3).replayed == 3
    repair_study(root, found)
    xj.run_study(TRAINER, range(N), store=root, keep=KEPT)
    assert contents(root) == contents(whole)


def test_committed_members_without_values_are_found(whole, tmp_path):
    root = copied(whole, tmp_path)
    array = zarr.open_array(root / "epochs")
    array[5] = np.iinfo(np.int32).min
    found = verify_study(root)
    assert found.damaged == [f"{root}/epochs/c.1 lacks values of members that are committed"]
    assert found.shards == ["1"]


def test_a_shard_that_another_works_on_is_left_to_it(whole, tmp_path):
    root = copied(whole, tmp_path)
    for chunk in ("loss/c.1", "loss/c.2"):
        (root / chunk).write_bytes(b"")
    found = verify_study(root)
    assert found.shards == ["1", "2"]
    Claims(root).take("1")
    assert repair_study(root, found) == ["1"]
    assert (root / "loss/c.1").exists()
    assert not (root / "loss/c.2").exists()


def test_a_repair_finds_its_shards_in_a_study_that_was_extended(tmp_path):
    trainer = xj.trainer(xj.mlp((2, 2, 1)), xj.xor(), lambda h: optax.sgd(h["learning_rate"]), epochs=3)
    axes = {"learning_rate": [0.1, 0.5]}
    xj.run_study(trainer, range(8), axes, store=tmp_path / "a.zarr", shard_size=4)
    (tmp_path / "a.zarr/loss/c.1.0").write_bytes(b"")
    found = verify_study(tmp_path / "a.zarr")
    xj.run_study(trainer, range(16), axes, store=tmp_path / "a.zarr")
    repair_study(tmp_path / "a.zarr", found)
    xj.run_study(trainer, range(16), axes, store=tmp_path / "a.zarr")
    assert verify_study(tmp_path / "a.zarr", trainer).is_sound


def test_what_is_committed_during_a_look_is_not_damaged(whole, results, tmp_path, monkeypatch):
    writable = stored_in(copied(whole, tmp_path))
    delete_shard(writable, 2)
    listed = shards.list_chunks
    looks = []

    def slowly(stored, variable):
        found = listed(stored, variable)
        if not looks:
            commit_shard(writable, 2, np.ones(2, bool), values_of(results, slice(8, 10)))
        looks.append(variable.name)
        return found

    monkeypatch.setattr(shards, "list_chunks", slowly)
    found = verify_study(tmp_path / "a.zarr")
    assert (found.damaged, found.committed) == ([], 8)
    assert len(looks) == len(writable.layout.variables)


def test_files_are_read_where_members_can_not_be_trained_again(whole, tmp_path):
    root = copied(whole, tmp_path)
    document = json.loads((root / "zarr.json").read_text())
    document["attributes"]["xorjax"]["versions"]["jax"] = "0.1"
    (root / "zarr.json").write_text(json.dumps(document))
    with pytest.raises(
        ValueError, match=r"can't be trained again here, where it differs in:\n- versions.jax: '0.1'"
    ):
        verify_study(root, TRAINER)
    assert verify_study(root, TRAINER, sample=0).is_sound


def test_the_rate_is_of_the_time_since_a_study_stood_still():
    times = np.array([0.0, 1.0, 2.0, 500.0, 502.0, 504.0])
    assert status._rate(times, np.full(6, 10)) == 5.0
    assert status._rate(times[:1], np.full(1, 10)) is None


def test_metadata_that_are_damaged_are_named_and_repaired(whole, tmp_path):
    root = copied(whole, tmp_path)
    (root / "loss/zarr.json").write_text("{")
    (root / "seed/c.0").unlink()
    found = verify_study(root)
    assert len(found.damaged) == 2
    other = copied(whole, tmp_path / "other")
    (other / "seed/c.0").write_bytes(b"xyz")
    with pytest.raises(StoreError, match=r"damaged coordinates .*verify --repair writes them anew"):
        xj.open_study(other)
    assert "loss/zarr.json is damaged or missing" in found.damaged[0]
    assert "seed/c.0" in found.damaged[1]
    repair_study(root, found)
    assert contents(root) == contents(whole)


def changed(*path, to):
    def change(document):
        at = document
        for key in path[:-1]:
            at = at[key]
        at[path[-1]] = to

    return change


DESCRIBED = ("attributes", "xorjax")
HOSTILE = {
    "no attributes": changed("attributes", to={}),
    "attributes of another": changed("attributes", to={"xorjax": 3}),
    "another format": changed(*DESCRIBED, "format", to=99),
    "a huge axis": changed(*DESCRIBED, "axes", to={"seed": 10**30}),
    "an axis of text": changed(*DESCRIBED, "axes", to={"seed": "10"}),
    "an axis of a path": changed(*DESCRIBED, "axes", to={"../seed": 10}),
    "huge shards": changed(*DESCRIBED, "unit", to=[2**40]),
    "shards of nothing": changed(*DESCRIBED, "unit", to=[0]),
    "shards of one": lambda document: document["attributes"]["xorjax"].update(
        {"axes": {"seed": 2**31}, "seeds": [[0, 2**31]], "unit": [1]}
    ),
    "no plan": lambda document: document["attributes"]["xorjax"].pop("plan"),
    "an engine that is a number": changed(*DESCRIBED, "engine", to=3),
    "versions in a list": changed(*DESCRIBED, "versions", to=[1]),
    "something shared that is text": changed(*DESCRIBED, "shared", to={"learning_rate": "<b>"}),
    "shards of too many axes": changed(*DESCRIBED, "unit", to=[4, 4]),
    "a variable outside": changed(*DESCRIBED, "variables", 0, "name", to="../../loss"),
    "a variable at the root": changed(*DESCRIBED, "variables", 0, "name", to="/etc/passwd"),
    "a variable of no name": changed(*DESCRIBED, "variables", 0, "name", to=""),
    "a variable of objects": changed(*DESCRIBED, "variables", 0, "dtype", to="object"),
    "a variable that is huge": changed(*DESCRIBED, "variables", 0, "shape", to=[2**31]),
    "a variable of too many axes": changed(*DESCRIBED, "variables", 0, "shape", to=[2, 2, 2]),
    "no variables": changed(*DESCRIBED, "variables", to=[]),
    "variables of text": changed(*DESCRIBED, "variables", to="loss"),
    "fewer seeds than there are": changed(*DESCRIBED, "seeds", to=[[0, 9]]),
    "negative seeds": changed(*DESCRIBED, "seeds", to=[[-5, 5]]),
    "seeds backwards": changed(*DESCRIBED, "seeds", to=[[10, 0]]),
    "values of no axis": changed(*DESCRIBED, "values", to={"rate": [1.0]}),
    "records in words": changed(*DESCRIBED, "record", to=["first"]),
    "no metadata": changed("consolidated_metadata", to=None),
    "metadata of another shape": changed("consolidated_metadata", "metadata", "loss", "shape", to=[11]),
    "another codec": changed(
        "consolidated_metadata", "metadata", "loss", "codecs", to=[{"name": "numcodecs.pickle"}]
    ),
    "an array more": changed("consolidated_metadata", "metadata", "extra", to={}),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_store_that_does_not_fit_together_gives_one_clear_error(name, whole, tmp_path):
    root = copied(whole, tmp_path)
    document = json.loads((root / "zarr.json").read_text())
    HOSTILE[name](document)
    (root / "zarr.json").write_text(json.dumps(document))
    before = contents(root)
    for use in (
        lambda: xj.open_study(root),
        lambda: xj.studies.verify_study(root),
        lambda: xj.run_study(TRAINER, range(N), store=root),
    ):
        with pytest.raises(StoreError, match=r"zarr\.json") as error:
            use()
        assert str(root) in str(error.value)
    assert contents(root) == before


TEXTS = {
    "nothing": b"",
    "half": b'{"attributes": {',
    "no text": b"\xff\xfe",
    "a list": b"[]",
    "deep": b"[" * 10**6,
}


@pytest.mark.parametrize("name", TEXTS)
def test_a_root_that_is_no_document(name, whole, tmp_path):
    root = copied(whole, tmp_path)
    (root / "zarr.json").write_bytes(TEXTS[name])
    with pytest.raises(
        StoreError, match=r"zarr\.json is damaged, or not of a study of xorjax.* is a copy, to be put"
    ):
        xj.open_study(root)
    shutil.copy(root / ".zarr.json.copy", root / "zarr.json")
    assert contents(root) == contents(whole)


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("all of it")
    with pytest.raises(StoreError, match="is a folder with other files in it"):
        xj.run_study(TRAINER, range(N), store=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    with pytest.raises(StoreError, match="holds no study"):
        xj.open_study(tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()


def test_a_study_of_zarr_s_own_is_none_of_ours(tmp_path):
    zarr.create_group(tmp_path / "a.zarr").create_array("loss", shape=(3,), dtype="f4")
    with pytest.raises(StoreError, match="not of a study of xorjax"):
        xj.run_study(TRAINER, range(N), store=tmp_path / "a.zarr")


def test_a_beginning_that_was_cut_short_is_begun_anew(whole, tmp_path):
    root = copied(whole, tmp_path)
    (root / "zarr.json").unlink()
    with pytest.raises(StoreError, match=r"has members of a study, but no zarr\.json"):
        xj.run_study(TRAINER, range(N), store=root, keep=KEPT, shard_size=4)
    for chunk in root.rglob("c.*"):
        chunk.unlink()
    shutil.rmtree(root / "loss")
    xj.run_study(TRAINER, range(N), store=root, keep=KEPT, shard_size=4)
    assert contents(root) == contents(whole)


def test_zarr_reads_what_the_layout_says(whole):
    stored = stored_in(whole)
    for path, document in node_documents(stored.layout).items():
        if document["node_type"] == "array":
            array = zarr.open_array(whole, path=path, mode="r")
            assert list(array.shape) == document["shape"]
            assert array.metadata.to_dict()["dimension_names"] == tuple(document["dimension_names"])


def test_a_missing_value_is_none_that_occurs():
    real, whole = np.zeros((), np.float32), np.zeros((), np.int32)
    shapes = xj.Result(real, real, real, real, whole, whole, whole)
    layout = Layout({"seed": 1}, (1,), list_variables(shapes, None), None)
    missing = {variable.name: variable.missing for variable in layout.variables}
    assert missing[OUTCOME] == MISSING_OUTCOME
    assert missing["solved_epoch"] == missing["epochs"] == np.iinfo(np.int32).min
    assert np.isnan(missing["loss"])

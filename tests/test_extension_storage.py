"""A result on disk is the old or the new one: after a kill, on a full disk, damaged, or written by two processes."""

import json
import multiprocessing
import os
import pickle
import shutil
import signal
import sys
import warnings
from pathlib import Path

import numcodecs
import numpy as np
import pytest
import spikeinterface.core as si
import zarr
from analyzers import build_analyzer
from filelock import SoftFileLock
from spikeinterface.core.sortinganalyzer import get_extension_class

from spikeinterface_nuclr import (
    InputError,
    RecordingWarning,
    compute_nuclr_embedding,
    compute_nuclr_identity,
    files,
    simulate_population,
)
from spikeinterface_nuclr.extensions import computed_embedding
from spikeinterface_nuclr.extensions.storage import save_properties

NAME = "nuclr_embedding"
FORMATS = ("binary_folder", "zarr")
NEW = {"precision": "float32", "overlap": 0.25, "progress_bar": False}
LOCK = ".nuclr.lock"
posix = pytest.mark.skipif(sys.platform == "win32", reason="forks, and limits of POSIX")


@pytest.fixture(scope="module")
def spikes():
    return simulate_population(12, 80.0, seed=3)


@pytest.fixture(scope="module")
def originals(spikes, tmp_path_factory):
    """An analyzer with embeddings and identities in each format, and another without."""
    root = tmp_path_factory.mktemp("originals")
    for format in FORMATS:
        for what in ("empty", "full"):
            folder = root / f"{what}-{format}{'.zarr' if format == 'zarr' else ''}"
            analyzer = build_analyzer(spikes, format=format, folder=folder)
            if what == "full":
                compute_nuclr_embedding(analyzer, precision="float32", progress_bar=False)
                compute_nuclr_identity(analyzer, "simulated-cell-type")
                analyzer.get_extension(NAME).publish_properties()
    return root


@pytest.fixture
def analyzer_folder(originals, tmp_path):
    def copied(what, format):
        name = f"{what}-{format}{'.zarr' if format == 'zarr' else ''}"
        shutil.rmtree(tmp_path / name, ignore_errors=True)
        return shutil.copytree(originals / name, tmp_path / name, symlinks=True)

    return copied


def opened(folder):
    return si.load_sorting_analyzer(folder, load_extensions=False)


def stored_rows(folder):
    """The embeddings that a new process would read; None where there are none."""
    analyzer = opened(folder)
    extension = analyzer.get_extension(NAME)
    return None if extension is None else extension.data["embedding"]


@pytest.fixture(scope="module")
def new_data(originals):
    """What is computed with other parameters: once, since these tests are about saving it."""
    analyzer = opened(originals / "empty-binary_folder")
    return compute_nuclr_embedding(analyzer, **NEW, save=False).data


@pytest.fixture
def recompute(new_data, monkeypatch):
    """Replace the result in a folder by another, and with it the identities and the sorting properties."""
    monkeypatch.setattr(get_extension_class(NAME), "computed", lambda *_, **__: dict(new_data))

    def recompute(folder):
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "nuclr_identity was computed", RecordingWarning)
            compute_nuclr_embedding(opened(folder), **NEW)

    return recompute


# --- killed, or out of space, at chosen steps -------------------------------------------------------------------------


class Killed(BaseException):
    """Ends what it is raised in as a kill does: it is not caught, and nothing more is written."""


class Steps:
    """Lists the calls that change the disk; stops at the one of a number, as a kill or a full disk would.

    After a kill every further call fails, too: code that cleans up does not run in a killed process.
    """

    CALLS = (
        (os, "rename"), (os, "replace"), (os, "mkdir"), (os, "unlink"), (os, "rmdir"), (os, "fsync"),
        (np, "save"), (zarr, "consolidate_metadata"), (shutil, "rmtree"), (Path, "write_text"), (files, "exchange"),
        *((getattr(zarr.storage, "DirectoryStore", dict), name) for name in ("__setitem__", "__delitem__")),
    )  # fmt: skip

    def __init__(self, monkeypatch, stop=None, error=Killed):
        self.names, self.stop, self.error, self.dead = [], stop, error, False
        monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # the disk may be slow
        for module, name in self.CALLS:
            monkeypatch.setattr(module, name, self.counted(name, getattr(module, name)))

    def counted(self, name, call):
        def step(*args, **kwargs):
            if self.dead:
                raise Killed
            self.names.append(name)
            if len(self.names) - 1 == self.stop:
                self.dead = self.error is Killed
                raise Killed if self.dead else OSError(28, "No space left on device")
            return call(*args, **kwargs)

        return step


def steps_of(change, folder):
    """The names of the calls by which a change is made."""
    with pytest.MonkeyPatch.context() as patch:
        steps = Steps(patch)
        change(folder)
    return steps.names


def first_and_last(names):
    """The steps at which each kind of call comes first and last."""
    last = {name: step for step, name in enumerate(names)}
    return sorted({*(names.index(name) for name in last), *last.values()})


def stopped(change, folder, step, error):
    """Make a change that stops at a step; whether it came to its end, and the error."""
    with pytest.MonkeyPatch.context() as patch:
        Steps(patch, step, error)
        try:
            change(folder)
            finished, reason = True, ""
        except (Killed, InputError) as raised:
            finished, reason = False, raised  # kept: what its frames hold is released when calls succeed again
    # A lock that a dead process has left is ignored, but the process of this one still runs.
    (folder / LOCK).unlink(missing_ok=True)
    return finished, str(reason)


def check_old_or_new(folder, old, new, *, finished, step):
    """That a new process reads the old or the new result; whether it is the new one."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", RecordingWarning)
        rows = stored_rows(folder)
    is_new = rows is not None and np.array_equal(rows, new)
    assert is_new or (rows is None if old is None else np.array_equal(rows, old)), step
    assert is_new or not finished, step
    analyzer = opened(folder)
    published = analyzer.get_sorting_property("nuclr_num_windows")
    assert published is None or published.max() > 0, step  # complete or absent: a Zarr array of no chunks is zeros
    identity = analyzer.get_extension("nuclr_identity")
    assert identity is None or not is_new or identity.stale, step
    return is_new


def check_kills(analyzer_folder, recompute, what, format, new, choose):
    """Kill at the steps that `choose` takes from the names of all; how many left the old and the new result."""
    old = stored_rows(analyzer_folder(what, format))
    assert old is None or not np.array_equal(old, new)
    names = steps_of(recompute, analyzer_folder(what, format))
    expected = {"mkdir", "fsync", "exchange" if what == "full" else "rename"}
    if sys.version_info < (3, 11):  # where Path.mkdir keeps the function that it found when it was imported
        expected.remove("mkdir")
    assert expected <= set(names)
    count = {False: 0, True: 0}
    for step in choose(names):
        folder = analyzer_folder(what, format)
        finished, _ = stopped(recompute, folder, step, Killed)
        count[check_old_or_new(folder, old, new, finished=finished, step=step)] += 1
        if step == names.index("fsync"):  # what it left behind hinders nobody
            recompute(folder)
            assert np.array_equal(stored_rows(folder), new)
    assert count[False] > 3
    assert count[True] >= 1 or what == "empty"  # a store lists what is new in its very last step


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("what", ["full", "empty"])
def test_killed_at_a_step_of_any_kind_the_old_or_the_new_result_is_there(
    analyzer_folder, recompute, new_data, what, format
):
    def choose(names):
        return [*first_and_last(names), int(np.random.default_rng().integers(len(names)))]

    check_kills(analyzer_folder, recompute, what, format, new_data["embedding"], choose)


@pytest.mark.slow
@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("what", ["full", "empty"])
def test_killed_at_every_step_the_old_or_the_new_result_is_there(analyzer_folder, recompute, new_data, what, format):
    check_kills(analyzer_folder, recompute, what, format, new_data["embedding"], lambda names: range(len(names)))


@pytest.mark.parametrize("format", FORMATS)
def test_on_a_full_disk_the_old_or_the_new_result_is_there(analyzer_folder, recompute, new_data, format):
    old, new = stored_rows(analyzer_folder("full", format)), new_data["embedding"]
    names = steps_of(recompute, analyzer_folder("full", format))
    written = [name for name in names if name not in ("unlink", "rmdir", "rmtree", "__delitem__")]
    errors = 0
    for name in dict.fromkeys(written):
        folder = analyzer_folder("full", format)
        finished, error = stopped(recompute, folder, names.index(name), OSError)
        assert finished or "No space left on device" in error, (name, error)
        errors += not finished
        check_old_or_new(folder, old, new, finished=finished, step=name)
    assert errors > 3


@pytest.mark.parametrize("format", FORMATS)
def test_a_deleted_result_is_complete_or_gone(analyzer_folder, format):
    def delete(folder):
        analyzer = opened(folder)
        analyzer.get_extension(NAME)
        analyzer.delete_extension(NAME)

    folder = analyzer_folder("full", format)
    names = steps_of(delete, folder)
    assert stored_rows(folder) is None
    for step in first_and_last(names):
        folder = analyzer_folder("full", format)
        assert not stopped(delete, folder, step, Killed)[0]
        rows = stored_rows(folder)
        assert rows is None or np.isfinite(rows).all()


@pytest.mark.parametrize("format", FORMATS)
def test_a_property_of_another_type_is_the_old_or_the_new_one_or_absent(analyzer_folder, format):
    numbers, texts = np.arange(12.0), np.array([f"unit {k}" for k in range(12)])

    def write(values):
        return lambda folder: save_properties(opened(folder), {"nuclr_depth": values})

    def with_numbers():
        folder = analyzer_folder("full", format)
        write(numbers)(folder)
        return folder

    names = steps_of(write(texts), with_numbers())
    for step in first_and_last(names):
        folder = with_numbers()
        stopped(write(texts), folder, step, Killed)
        values = opened(folder).get_sorting_property("nuclr_depth")
        assert values is None or values.tolist() in (numbers.tolist(), texts.tolist()), step


@pytest.mark.parametrize("format", FORMATS)
def test_spikeinterface_s_own_compute_keeps_the_previous_result_too(analyzer_folder, format):
    folder = analyzer_folder("full", format)
    old = stored_rows(folder)
    for params, message in (({"overlap": 7}, "overlap"), ({"group_by": "absent"}, "absent")):
        with pytest.raises(InputError, match=message):
            opened(folder).compute(NAME, **params, progress_bar=False)
        assert np.array_equal(stored_rows(folder), old)
    opened(folder).compute(NAME, **NEW)
    assert not np.array_equal(stored_rows(folder), old)


# --- what really happens to processes and disks -----------------------------------------------------------------------


def forked(function):
    """The exit code of a process that is forked from this one to call a function; 1 where it raises."""
    process = os.fork()
    if process == 0:
        try:
            signal.alarm(60)
            function()
            os._exit(0)
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


@posix
@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_process_that_dies_as_the_result_is_replaced(analyzer_folder, recompute, new_data, format, moment):
    folder = analyzer_folder("full", format)
    old = stored_rows(folder)

    def die_in_exchange():
        def exchange(a, b, swap=files.exchange):
            if moment == "after":
                swap(a, b)
            os._exit(9)

        files.exchange = exchange
        recompute(folder)

    assert forked(die_in_exchange) == 9
    assert np.array_equal(stored_rows(folder), old if moment == "before" else new_data["embedding"])
    recompute(folder)
    assert np.array_equal(stored_rows(folder), new_data["embedding"])
    assert not list((folder / "extensions").glob(".n*"))


@posix
@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("limit", [1, 600, 2_000])
def test_a_limit_of_file_sizes_is_an_error(analyzer_folder, recompute, format, limit):
    folder = analyzer_folder("full", format)
    old = stored_rows(folder)

    def limited():
        import resource

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        try:
            recompute(folder)
        except InputError as error:
            os._exit(3 if "could not be" in str(error) and len(str(error).splitlines()) == 1 else 4)

    assert forked(limited) == 3
    assert np.array_equal(stored_rows(folder), old)


@pytest.mark.parametrize("format", FORMATS)
def test_an_analyzer_that_another_process_is_writing_is_named(analyzer_folder, recompute, monkeypatch, format):
    folder = analyzer_folder("full", format)
    old = stored_rows(folder)
    monkeypatch.setattr("spikeinterface_nuclr.extensions.storage._PATIENCE_S", 0.1)
    with SoftFileLock(folder / LOCK), pytest.raises(InputError, match=r"another process is writing it.*nuclr\.lock"):
        recompute(folder)
    assert np.array_equal(stored_rows(folder), old)
    recompute(folder)
    assert not (folder / LOCK).exists()


@posix
@pytest.mark.parametrize("format", FORMATS)
def test_two_processes_at_once_leave_the_complete_result_of_one(analyzer_folder, recompute, new_data, format):
    folder = analyzer_folder("empty", format)
    barrier = multiprocessing.get_context("fork").Barrier(2)

    def save(overlap):
        new_data["embedding"][:] = overlap
        barrier.wait(30)
        for _ in range(5):
            recompute(folder)

    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=save, args=(value,)) for value in (1.0, 2.0)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    assert set(np.unique(stored_rows(folder))) in ({1.0}, {2.0})
    assert not list((folder / "extensions").glob(".n*"))


@pytest.mark.parametrize("format", FORMATS)
def test_without_a_swap_of_folders_two_renames_replace_one(analyzer_folder, recompute, monkeypatch, format):
    """As on Windows, and on some file systems of networks."""

    def absent(a, b):
        raise InputError("this system cannot replace a folder in one step")

    folder = analyzer_folder("full", format)
    monkeypatch.setattr(files, "exchange", absent)
    old = stored_rows(folder)
    recompute(folder)
    assert not np.array_equal(stored_rows(folder), old)
    # A kill between the two leaves the old result aside.
    place = folder / "extensions" / NAME
    new = stored_rows(folder)
    aside = place.with_name(f".{NAME}.old")
    aside.mkdir()
    place.rename(aside / NAME)
    analyzer = si.load_sorting_analyzer(folder)
    assert np.array_equal(computed_embedding(analyzer).data["embedding"], new)
    recompute(folder)
    assert not [path.name for path in place.parent.iterdir() if path.name.startswith(".n")]


# --- damage, and absence ----------------------------------------------------------------------------------------------


def _damage_folder(place, how):
    if how == "a shorter array":
        np.save(place / "embedding.npy", np.load(place / "embedding.npy")[:-1])
    elif how == "zeros":
        np.save(place / "embedding.npy", np.zeros_like(np.load(place / "embedding.npy")))
    elif how == "an array less":
        (place / "split_half_similarity.npy").unlink()
    elif how == "no marker":
        (place / "complete.json").unlink()
    elif how == "truncated":
        (place / "embedding.npy").write_bytes((place / "embedding.npy").read_bytes()[:-100])
    elif how == "another dtype":
        np.save(place / "embedding.npy", np.load(place / "embedding.npy").astype("f8"))
    elif how == "odd JSON":
        (place / "complete.json").write_text("[1, 2]")
    elif how == "deep JSON":
        (place / "provenance.json").write_text("[" * 100_000)


def _damage_zarr(place, how):
    group = zarr.open_group(str(place), mode="r+")
    if how in ("zeros", "truncated"):
        for chunk in (place / "embedding").glob("[0-9]*"):
            chunk.unlink() if how == "zeros" else chunk.write_bytes(chunk.read_bytes()[:-5])
    elif how in ("a shorter array", "another dtype"):
        values = group["embedding"][:]
        del group["embedding"]
        group.array("embedding", values[:-1] if how == "a shorter array" else values.astype("f8"))
    elif how == "an array less":
        del group["split_half_similarity"]
    elif how == "no marker":
        del group.attrs["complete"]
    elif how == "odd JSON":
        group.attrs["complete"] = [1, 2]
    elif how == "deep JSON":
        (place / ".zattrs").write_text("[" * 100_000)


DAMAGES = (
    *("zeros", "a shorter array", "an array less", "another dtype", "truncated", "no marker", "odd JSON", "deep JSON"),
)


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_result_is_none_with_a_warning(analyzer_folder, recompute, format, how):
    folder = analyzer_folder("full", format)
    (_damage_zarr if format == "zarr" else _damage_folder)(folder / "extensions" / NAME, how)
    with pytest.warns(RecordingWarning, match="compute nuclr_embedding again") as record:
        assert opened(folder).get_extension(NAME) is None
    assert str(folder) in str(record[0].message)
    assert len(str(record[0].message).splitlines()) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RecordingWarning)
        assert si.load_sorting_analyzer(folder).unit_ids.size == 12  # the analyzer itself opens as before
        recompute(folder)
    assert np.isfinite(stored_rows(folder)).all()


@pytest.mark.parametrize("format", FORMATS)
def test_an_absent_result_is_no_warning(analyzer_folder, recompute, format):
    folder = analyzer_folder("empty", format)
    with warnings.catch_warnings():
        warnings.simplefilter("error", RecordingWarning)
        assert opened(folder).get_extension(NAME) is None
        if format == "zarr":  # listed, and gone
            place = folder / "extensions" / NAME
            recompute(folder)
            shutil.rmtree(place)
            assert opened(folder).get_extension(NAME) is None


@pytest.mark.parametrize("format", FORMATS)
def test_a_pickle_in_our_folder_is_never_loaded(analyzer_folder, format):
    folder = analyzer_folder("full", format)
    place = folder / "extensions" / NAME
    if format == "zarr":
        group = zarr.open_group(str(place), mode="r+")
        group.create_dataset("more", shape=1, dtype=object, object_codec=numcodecs.Pickle())[0] = {"a": 1}
        zarr.consolidate_metadata(str(folder))
    else:
        (place / "more.pkl").write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    with pytest.warns(RecordingWarning, match=r"more.*pickle"):
        assert opened(folder).get_extension(NAME) is None


def test_metrics_of_an_analyzer_are_checked_before_they_are_loaded(analyzer_folder, tmp_path):
    from spikeinterface_nuclr.extensions.prediction import metrics_of

    folder = analyzer_folder("empty", "binary_folder")
    metrics = folder / "extensions" / "quality_metrics"
    metrics.mkdir(parents=True)
    (metrics / "params.json").write_text("{}")
    (metrics / "run_info.json").write_text(json.dumps({"run_completed": True, "runtime_s": 1.0}))
    (metrics / "metrics.pkl").write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(InputError, match=r"metrics\.pkl: is a pickle"):
        metrics_of(opened(folder))


# --- a model that moved with its project ------------------------------------------------------------------------------


def test_a_project_folder_may_move_with_its_model(spikes, tmp_path):
    from spikeinterface_nuclr import load_checkpoint

    (tmp_path / "here" / "models").mkdir(parents=True)
    model = load_checkpoint().save(tmp_path / "here" / "models" / "m.safetensors")
    analyzer = build_analyzer(spikes, format="binary_folder", folder=tmp_path / "here" / "sorted" / "analyzer")
    compute_nuclr_embedding(analyzer, model=model, progress_bar=False)
    shutil.move(tmp_path / "here", tmp_path / "there")
    moved = si.load_sorting_analyzer(tmp_path / "there" / "sorted" / "analyzer")
    for mode in ("soft", "hard"):
        merged = moved.merge_units([moved.unit_ids[:2].tolist()], merging_mode=mode)
        extension = merged.get_extension(NAME)
        assert not extension.stale
        assert np.isfinite(extension.data["embedding"]).all()

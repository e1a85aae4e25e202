"""A result of an analyzer on disk is the old or the new one: killed at any step, on a full disk, damaged, at once."""

import json
import multiprocessing
import os
import pickle
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import numcodecs
import numpy as np
import pytest
import spikeinterface.core as si
import zarr
from analyzers import build_analyzer
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

NAME = "nuclr_embedding"
FORMATS = ("binary_folder", "zarr")


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


def held(folder):
    """The embeddings that a fresh process would find; None for none."""
    extension = opened(folder).get_extension(NAME)
    return None if extension is None else extension.data["embedding"]


# --- killed at each step, deterministically ---------------------------------------------------------------------------


class Killed(BaseException):
    """Ends what it is raised in as a kill would: nobody catches it, and nothing more is written."""


class Steps:
    """Counts what changes the disk, and ends the process, as it were, before the step of a number."""

    def __init__(self, monkeypatch, last=None, error=Killed):
        self.count, self.last, self.error, self.dead = 0, last, error, False
        monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # a test needs no disk, which may be slow
        for module, name in (
            (os, "rename"), (os, "replace"), (os, "mkdir"), (os, "unlink"), (os, "rmdir"), (os, "fsync"),
            (np, "save"), (zarr, "consolidate_metadata"), (shutil, "rmtree"), (Path, "write_text"),
            (zarr.storage.DirectoryStore, "__setitem__"), (zarr.storage.DirectoryStore, "__delitem__"),
        ):  # fmt: skip
            monkeypatch.setattr(module, name, self.watched(getattr(module, name)))
        monkeypatch.setattr(files, "exchange", self.watched(files.exchange))

    def watched(self, real):
        def step(*args, **kwargs):
            if self.dead and self.error is Killed:
                raise Killed
            self.count += 1
            if self.last is not None and self.count == self.last:
                self.dead = True
                raise self.error() if self.error is Killed else OSError(28, "No space left on device")
            return real(*args, **kwargs)

        return step


def changes(folder, computed={}):  # noqa: B006 (the same every time: embedded once)
    with pytest.MonkeyPatch.context() as patch:
        kind = get_extension_class(NAME)
        real = kind.computed
        patch.setattr(
            kind, "computed", lambda self, *a, **k: computed or computed.update(real(self, *a, **k)) or computed
        )
        compute_nuclr_embedding(opened(folder), precision="float32", overlap=0.25, progress_bar=False)


def steps_of(folder, change):
    with pytest.MonkeyPatch.context() as patch:
        steps = Steps(patch)
        change(folder)
    assert steps.count > 5
    return steps.count


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize(
    ("what", "error"), [("full", Killed), ("full", OSError), ("empty", Killed)], ids=["killed", "full disk", "first"]
)
def test_stopped_at_any_step_the_old_or_the_new_result_is_there(analyzer_folder, what, format, error):
    folder = analyzer_folder(what, format)
    old = held(folder)
    count = steps_of(folder, changes)
    new = held(folder)
    assert old is None or not np.array_equal(old, new)
    found = {"old": 0, "new": 0}
    for step in range(1, count + 1):
        folder = analyzer_folder(what, format)
        with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            Steps(patch, step, error)
            finished, said = False, "No space left on device"
            try:
                changes(folder)
                finished = True
            except Killed:
                pass
            except InputError as refusal:
                said = str(refusal)
        assert "No space left on device" in said, said
        with warnings.catch_warnings():
            warnings.simplefilter("error", RecordingWarning)
            now = held(folder)
        is_new = now is not None and np.array_equal(now, new)
        assert is_new or (now is None if old is None else np.array_equal(now, old)), step
        assert is_new or not finished, step
        found["new" if is_new else "old"] += 1
        published = opened(folder).get_sorting_property("nuclr_num_windows") if what == "full" else None
        assert published is None or published.max() > 0
        analyzer = opened(folder)
        identity = analyzer.get_extension("nuclr_identity")
        assert identity is None or not is_new or identity.stale, step
        if step % 7 == 0:  # what was left behind hinders nobody
            changes(folder)
            assert np.array_equal(held(folder), new)
    assert found["old"] > 3
    assert found["new"] >= 1 or what == "empty"  # a store lists what is new in its very last step


@pytest.mark.parametrize("format", FORMATS)
def test_spikeinterface_s_own_compute_keeps_the_result_that_is_there_too(analyzer_folder, format):
    folder = analyzer_folder("full", format)
    old = held(folder)
    with pytest.raises(InputError, match="overlap"):
        opened(folder).compute(NAME, overlap=7, progress_bar=False)
    assert np.array_equal(held(folder), old)
    with pytest.raises(InputError, match=r"absent"):
        opened(folder).compute(NAME, group_by="absent", progress_bar=False)
    assert np.array_equal(held(folder), old)
    opened(folder).compute(NAME, overlap=0.25, precision="float32", progress_bar=False)
    assert not np.array_equal(held(folder), old)


@pytest.mark.parametrize("format", FORMATS)
def test_deleting_takes_the_result_away_at_once(analyzer_folder, format):
    folder = analyzer_folder("full", format)
    count = steps_of(folder, lambda folder: opened(folder).delete_extension(NAME))
    assert held(folder) is None
    for step in range(1, count + 1):
        folder = analyzer_folder("full", format)
        analyzer = opened(folder)
        analyzer.get_extension(NAME)
        with pytest.MonkeyPatch.context() as patch:
            Steps(patch, step)
            with pytest.raises(Killed):
                analyzer.delete_extension(NAME)
        now = held(folder)
        assert now is None or np.isfinite(now).all()


# --- what really happens to processes and disks -----------------------------------------------------------------------

SCRIPT = """
import resource, sys, warnings
warnings.simplefilter("ignore")
import spikeinterface.core as si
from spikeinterface_nuclr import compute_nuclr_embedding
analyzer = si.load_sorting_analyzer(sys.argv[1], load_extensions=False)
if sys.argv[2] != "0":
    import signal
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
compute_nuclr_embedding(analyzer, precision="float32", overlap=0.25, progress_bar=False)
print("done")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="limits of POSIX")
@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("limit", [1, 600, 2_000])
def test_a_limit_of_file_sizes_is_no_success(analyzer_folder, format, limit):
    folder = analyzer_folder("full", format)
    old = held(folder)
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(folder), str(limit)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode != 0
    assert "done" not in done.stdout
    assert done.stderr.strip().splitlines()[-1].startswith("spikeinterface_nuclr.errors.InputError")
    assert np.array_equal(held(folder), old)


def _compute(folder, overlap, results):
    warnings.simplefilter("ignore")
    extension = compute_nuclr_embedding(opened(folder), precision="float32", overlap=overlap, progress_bar=False)
    results.put((overlap, extension.data["embedding"]))


@pytest.mark.parametrize("format", FORMATS)
def test_two_at_once_leave_the_whole_result_of_one(analyzer_folder, format):
    folder = analyzer_folder("empty", format)
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    workers = [context.Process(target=_compute, args=(folder, overlap, results)) for overlap in (0.0, 0.25)]
    for worker in workers:
        worker.start()
    found = dict(results.get(timeout=120) for _ in workers)
    for worker in workers:
        worker.join(60)
    assert any(np.array_equal(held(folder), one) for one in found.values())
    assert not [path.name for path in (folder / "extensions").iterdir() if path.name.startswith(".n")]


@pytest.mark.parametrize("format", FORMATS)
def test_without_a_swap_of_folders_two_renames_are_gone_on_with(analyzer_folder, monkeypatch, format):
    """As on Windows, and on some file systems of networks."""

    def absent(a, b):
        raise InputError("this system cannot replace a folder in one step")

    folder = analyzer_folder("full", format)
    monkeypatch.setattr(files, "exchange", absent)
    old = held(folder)
    changes(folder)
    assert not np.array_equal(held(folder), old)
    # Killed between the two: the old result lies aside.
    place = folder / "extensions" / NAME
    new = held(folder)
    aside = place.with_name(f".{NAME}.old")
    aside.mkdir()
    place.rename(aside / NAME)
    analyzer = si.load_sorting_analyzer(folder)
    assert np.array_equal(computed_embedding(analyzer).data["embedding"], new)
    changes(folder)
    assert not [path.name for path in place.parent.iterdir() if path.name.startswith(".n")]


# --- damage is told from absence --------------------------------------------------------------------------------------


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
def test_a_damaged_result_is_none_and_said(analyzer_folder, format, how):
    folder = analyzer_folder("full", format)
    (_damage_zarr if format == "zarr" else _damage_folder)(folder / "extensions" / NAME, how)
    with pytest.warns(RecordingWarning, match="compute nuclr_embedding again") as said:
        assert opened(folder).get_extension(NAME) is None
    assert str(folder) in str(said[0].message)
    assert len(str(said[0].message).splitlines()) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RecordingWarning)
        assert si.load_sorting_analyzer(folder).unit_ids.size == 12  # the analyzer itself opens as before
        changes(folder)
    assert np.isfinite(held(folder)).all()


@pytest.mark.parametrize("format", FORMATS)
def test_absence_is_said_by_nobody(analyzer_folder, format):
    folder = analyzer_folder("empty", format)
    with warnings.catch_warnings():
        warnings.simplefilter("error", RecordingWarning)
        assert opened(folder).get_extension(NAME) is None
        if format == "zarr":  # listed, and gone
            place = folder / "extensions" / NAME
            changes(folder)
            shutil.rmtree(place)
            assert opened(folder).get_extension(NAME) is None


@pytest.mark.parametrize("format", FORMATS)
def test_a_pickle_in_our_folder_is_never_opened(analyzer_folder, format):
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


def test_metrics_of_another_s_analyzer_are_looked_at_before_they_are_loaded(analyzer_folder, tmp_path):
    from spikeinterface_nuclr.extensions.identity import _metrics

    folder = analyzer_folder("empty", "binary_folder")
    metrics = folder / "extensions" / "quality_metrics"
    metrics.mkdir(parents=True)
    (metrics / "params.json").write_text("{}")
    (metrics / "run_info.json").write_text(json.dumps({"run_completed": True, "runtime_s": 1.0}))
    (metrics / "metrics.pkl").write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(InputError, match=r"metrics\.pkl: is a pickle"):
        _metrics(opened(folder))


# --- a model that moved with its project ------------------------------------------------------------------------------


def test_a_project_folder_may_move_with_its_model(spikes, tmp_path):
    from spikeinterface_nuclr import load_checkpoint

    (tmp_path / "here" / "models").mkdir(parents=True)
    model = load_checkpoint().save(tmp_path / "here" / "models" / "m.safetensors")
    analyzer = build_analyzer(spikes, format="binary_folder", folder=tmp_path / "here" / "sorted" / "analyzer")
    compute_nuclr_embedding(analyzer, model=model, progress_bar=False)
    shutil.move(tmp_path / "here", tmp_path / "there")
    moved = si.load_sorting_analyzer(tmp_path / "there" / "sorted" / "analyzer")
    merged = moved.merge_units([moved.unit_ids[:2].tolist()])
    extension = merged.get_extension(NAME)
    assert not extension.stale
    assert np.isfinite(extension.data["embedding"]).all()

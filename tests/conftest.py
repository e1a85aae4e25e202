"""What the tests share: real spikes in every kind of source, and the recordings beside the project where present."""

import hashlib
import shutil
import sys
from pathlib import Path

import h5py
import numpy as np
import pynwb
import pytest
import torch
from hdmf.build import BuildManager
from nwb_files import add_units, new_nwb, write_nwb_file
from pynwb import validation
from typer.testing import CliRunner

from spikeinterface_nuclr import (
    Checkpoint,
    Encoder,
    EncoderConfig,
    Population,
    UnitEmbeddings,
    embed,
    read_population,
    simulate_population,
)
from spikeinterface_nuclr.cli import app

DATA = Path(__file__).parent / "data"
RECORDINGS = Path(__file__).parents[2] / "shared" / "data"


def pytest_addoption(parser):
    parser.addoption("--corpus", type=int, default=300, help="damaged inputs that test_corpus.py reads")


# On Python 3.14, SpikeInterface does not write Zarr yet, and other packages bring a hdmf-zarr for zarr 3.
_WITHOUT_ZARR = ("Writing to zarr is not supported yet", "hdmf_zarr")
if sys.version_info >= (3, 14):
    sys.modules["hdmf_zarr"] = None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item):
    return (yield from _skipping_zarr())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    return (yield from _skipping_zarr())


def _skipping_zarr():
    try:
        return (yield)
    except Exception as error:
        if sys.version_info >= (3, 14) and any(text in str(error) for text in _WITHOUT_ZARR):
            pytest.skip("no Zarr on this Python")
        raise


@pytest.fixture(scope="session")
def recordings() -> Path:
    """Folder of real recordings; the test skips where it is absent."""
    if not RECORDINGS.is_dir():
        pytest.skip("no folder of recordings beside the project")
    return RECORDINGS


@pytest.fixture(scope="session")
def population() -> Population:
    return simulate_population(n_units=20, duration=60.0, seed=1)


@pytest.fixture(scope="session")
def checkpoint() -> Checkpoint:
    """A small encoder with random weights."""
    torch.manual_seed(0)
    config = EncoderConfig(dim=32, heads=2, head_dim=16)
    return Checkpoint(config, Encoder(config).state_dict(), {"name": "random"}, name="random")


@pytest.fixture(scope="session")
def mice(checkpoint, tmp_path_factory) -> Path:
    """A folder with the NWB files of three simulated mice with labels, and a small model."""
    folder = tmp_path_factory.mktemp("mice")
    for k in range(3):
        write_mouse(folder / f"m{k}.nwb", k)
    checkpoint.save(folder / "small.safetensors")
    return folder


@pytest.fixture(scope="session")
def new_mouse(tmp_path_factory) -> Path:
    """The NWB file of one more mouse."""
    return write_mouse(tmp_path_factory.mktemp("new") / "m3.nwb", 3)


def write_mouse(path: Path, number: int) -> Path:
    population = simulate_population(30, 60.0, seed=number)
    nwbfile = new_nwb()
    nwbfile.subject.fields["subject_id"] = f"mouse-{number}"
    columns = {
        "unit_name": population.unit_ids,
        "cell_type": population.properties["cell_type"],
        "depth": population.properties["depth"],
        "depth_um": population.properties["depth"].astype(int),
        "area": np.resize(["VISp5", "CA1", "root"], 30),
    }
    return write_nwb_file(path, add_units(nwbfile, population.spike_times, **columns))


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


# --- commands and NWB files -------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def nuclr():
    """Run a command of `nuclr` in this process: nuclr("info", path) -> its exit_code, stdout and stderr.

    `code` is the exit code that is expected; no command may end in another exception than its exit.
    """

    def run(*arguments, code=0):
        words = [str(argument) for argument in arguments]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("sys.argv", ["nuclr", *words])
            result = CliRunner().invoke(app, words)
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        assert result.exit_code == code, result.stderr
        return result

    return run


@pytest.fixture(scope="session")
def model(checkpoint, tmp_path_factory) -> Path:
    """The small encoder in a file."""
    return checkpoint.save(tmp_path_factory.mktemp("model") / "small.safetensors")


@pytest.fixture(scope="session")
def calcium_checkpoint() -> Checkpoint:
    """A small encoder of traces at 2.5 frames per second with random weights."""
    torch.manual_seed(0)
    config = EncoderConfig(bin_s=0.4, patch_size=4, num_patches=10, signal="traces", dim=32, heads=2, head_dim=16)
    return Checkpoint(config, Encoder(config).state_dict(), {"name": "random"})


@pytest.fixture(scope="session")
def units_file(population, tmp_path_factory) -> Path:
    """An NWB file of the population's units, and a series of something else: to copy, not to write into."""
    columns = {"unit_name": population.unit_ids, "cell_type": population.properties["cell_type"]}
    nwbfile = add_units(new_nwb(), population.spike_times, **columns)
    nwbfile.add_acquisition(pynwb.TimeSeries(name="raw", data=np.arange(100.0), unit="V", rate=10.0))
    return write_nwb_file(tmp_path_factory.mktemp("units") / "session.nwb", nwbfile)


@pytest.fixture
def session(units_file, tmp_path) -> Path:
    """A copy of that file to write into."""
    return Path(shutil.copy(units_file, tmp_path / "session.nwb"))


@pytest.fixture(scope="session")
def embeddings(units_file, checkpoint) -> UnitEmbeddings:
    """Embeddings of its units by the small encoder."""
    return embed(read_population(units_file), checkpoint, precision="float32", device="cpu", progress=False)


def specifications_of(file) -> str | None:
    """Hash of the specifications that an HDF5 file, or the one at a path, holds; None where it holds none."""
    if isinstance(file, str) and Path(file).is_file():
        with h5py.File(file, "r") as opened:
            return specifications_of(opened)
    if not isinstance(file, h5py.File) or ".specloc" not in file.attrs:
        return None
    digest = hashlib.sha256()
    file[file.attrs[".specloc"]].visititems(
        lambda name, thing: digest.update(name.encode() + (thing[()] if isinstance(thing, h5py.Dataset) else b""))
    )
    return digest.hexdigest()


@pytest.fixture(scope="session", autouse=True)
def specifications_parsed_once():
    """Parse the specifications that NWB files hold once for all files with the same ones.

    That is most of the time that pynwb takes to validate a small file. The files themselves are validated each time.
    """
    parse, parsed = validation.get_cached_namespaces_to_validate, {}

    def parse_once(path=None, driver=None, aws_region=None, io=None):
        key = specifications_of(io._file if io is not None else path)
        if key is None:
            return parse(path, driver, aws_region, io)
        if key not in parsed:
            parsed[key] = parse(path, driver, aws_region, io)
        names, manager, dependencies = parsed[key]
        return names, BuildManager(manager.type_map) if manager is not None else None, dependencies

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(validation, "get_cached_namespaces_to_validate", parse_once)
        yield

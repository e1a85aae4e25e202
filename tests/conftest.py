"""What the tests share: real spikes in every kind of source, and the recordings beside the project where present."""

from pathlib import Path

import numpy as np
import pytest
import torch

from spikeinterface_nuclr import Checkpoint, Encoder, EncoderConfig, Population, simulate_population

DATA = Path(__file__).parent / "data"
RECORDINGS = Path(__file__).parents[2] / "shared" / "data"


def pytest_addoption(parser):
    parser.addoption("--corpus", type=int, default=300, help="damaged inputs that test_corpus.py reads")


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


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)

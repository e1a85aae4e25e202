import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

import spikeinterface_nuclr

try:
    from tomllib import loads as toml
except ImportError:  # Python 3.10
    from tomli import loads as toml


def test_every_public_name_exists_and_is_documented():
    for name in spikeinterface_nuclr.__all__:
        assert getattr(spikeinterface_nuclr, name).__doc__, name
    assert set(spikeinterface_nuclr.__all__) <= set(dir(spikeinterface_nuclr))
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        spikeinterface_nuclr.nonsense  # noqa: B018


def test_importing_the_package_imports_nothing_heavy():
    # spikeinterface itself is there, because the extensions are registered with it.
    heavy = "torch", "matplotlib", "pynwb", "hdmf", "ndx_nuclr", "huggingface_hub", "safetensors", "pandas"
    code = (
        f"import sys, spikeinterface; before = set(sys.modules); import spikeinterface_nuclr;"
        f"print([m for m in {heavy!r} if m in set(sys.modules) - before])"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert process.stdout.strip() == "[]"


def test_reading_a_population_does_not_import_torch():
    code = (
        "import sys; from spikeinterface_nuclr import read_population, simulate_population;"
        "from spikeinterface_nuclr import windows;"
        "read_population(simulate_population(n_units=3, duration=5.0)); print('torch' in sys.modules)"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert process.stdout.strip() == "False"


@pytest.mark.parametrize("name", ["nuclr-starter", "simulated-cell-type", "recording.npy"])
def test_what_only_describes_imports_no_torch(name, tmp_path):
    np.save(tmp_path / "recording.npy", np.random.default_rng(0).random((3, 900)))
    options = ["--traces", "dff", "--sampling-frequency", "10"] if name.endswith(".npy") else []
    code = (
        "import sys; from spikeinterface_nuclr.cli import app\n"
        f"app({['info', name, *options]!r}, standalone_mode=False); print([m for m in ('torch',) if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("name", ["ndx-nuclr", "spikeinterface-nuclr"])
def test_conda_recipes_ask_for_what_the_package_asks_for(name):
    root = Path(__file__).parents[1]
    if not (root / "conda").is_dir():
        pytest.skip("not in the source distribution")
    project = root / (name if name == "ndx-nuclr" else "") / "pyproject.toml"
    asked = toml(project.read_text())["project"]
    recipe = yaml.safe_load((root / "conda" / name / "recipe.yaml").read_text())
    assert recipe["context"]["version"] == asked.get("version", spikeinterface_nuclr.__version__)
    names = {"torch": "pytorch", "matplotlib": "matplotlib-base"}
    requirements = (Requirement(line) for line in asked["dependencies"])
    expected = {(names.get(one.name, one.name), one.specifier) for one in requirements}
    found = (line.partition(" ") for line in recipe["requirements"]["run"][1:])
    assert {(name, SpecifierSet(versions)) for name, _, versions in found} == expected

"""The types of the public interface, as a type checker sees them in the installed package."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import spikeinterface_nuclr

PACKAGE = Path(spikeinterface_nuclr.__file__).parent
USAGE = Path(__file__).parent / "typed" / "usage.py"


def test_the_types_of_all_public_names_are_listed():
    assert (PACKAGE / "py.typed").is_file()
    stub = ast.parse((PACKAGE / "__init__.pyi").read_text())
    listed = {
        alias.asname: f"{node.module}" for node in stub.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    assert listed == spikeinterface_nuclr._PUBLIC


MISTAKES = """
from spikeinterface_nuclr import Population, embed, load_checkpoint
population = Population(['a'], [[0.1]], stop='ten')
embed(population, overlap='half')
embed(population, size=3)
load_checkpoint('nuclr-starter').weigths
"""


@pytest.mark.slow
def test_what_users_write_has_the_types_that_it_seems_to_have(tmp_path):
    pytest.importorskip("mypy")
    mistakes = tmp_path / "mistakes.py"
    mistakes.write_text(MISTAKES)
    options = ["--follow-imports=silent", "--ignore-missing-imports", f"--cache-dir={tmp_path}"]
    command = [sys.executable, "-m", "mypy", *options, USAGE, mistakes]
    # mypy finds what is installed by itself, but not what is installed to be edited.
    path = {} if "site-packages" in PACKAGE.parts else {"MYPYPATH": str(PACKAGE.parent)}
    done = subprocess.run(command, env={**os.environ, **path}, cwd=tmp_path, capture_output=True, text=True)
    found = re.findall(r"(\w+)\.py:(\d+): error", done.stdout)
    assert found == [("mistakes", str(number)) for number in range(3, 7)], done.stdout + done.stderr

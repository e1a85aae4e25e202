"""Damaged inputs of every kind end in a result or in one line: no traceback, no hang, no more than a gigabyte."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import corpus
import numpy as np
import pytest

from spikeinterface_nuclr import InputError

CORPUS = Path(__file__).with_name("corpus.py")


@pytest.mark.slow
def test_a_corpus_of_damaged_inputs(tmp_path, request):
    count = request.config.getoption("--corpus")
    done = subprocess.run(
        [sys.executable, str(CORPUS), str(tmp_path / "corpus"), "--count", str(count), "--seed", "0"],
        capture_output=True, text=True, timeout=60 + 10 * count,
    )  # fmt: skip
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 0, f"the process ended at the case {last}"
    *wrong, counts = map(json.loads, done.stdout.splitlines())
    assert not wrong, "\n".join(f"{one['case']} ({one['how']}): {one['wrong']}" for one in wrong)
    assert counts["cases"] >= count


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    return corpus.make_originals(tmp_path_factory.mktemp("corpus") / "good")


def test_one_damage_of_every_kind_of_input(good, tmp_path):
    """The first cases of the corpus, in this process, without its limits of memory and time."""
    for number, (name, source) in enumerate(good.items()):
        rng = np.random.default_rng([1, number])
        path = tmp_path / name
        (shutil.copytree if source.is_dir() else shutil.copyfile)(source, path)
        damage = corpus.damaged(path, rng)
        for way in corpus.reading(name, path, good, tmp_path, rng):
            assert corpus.outcome(way) == "", f"{name} {damage}: {way}"


def test_the_corpus_reaches_every_kind_of_input_and_of_damage(good):
    """Guards the tests above: a corpus that changes nothing would pass them."""
    ways = set()
    for number, path in enumerate(sorted(good.values()) * 6):
        before = {file: file.read_bytes() for file in ([path] if path.is_file() else path.rglob("*")) if file.is_file()}
        done = corpus.damaged(path, np.random.default_rng(number))
        ways.add(done.partition(": ")[2].split()[0])
        for file, content in before.items():
            file.write_bytes(content)
    assert ways >= {"flip", "truncate", "zero", "other_array", "other_json", "other_dataset", "other_header"}
    assert len(good) > 20


def test_the_corpus_tells_a_traceback_from_a_refusal():
    def refuse():
        raise InputError("s.nwb: no")

    def fail():
        raise KeyError("x")

    assert corpus.outcome(refuse) == ""
    assert "KeyError" in corpus.outcome(fail)
    assert corpus.outcome(["info", "absent.nwb"]) == ""
    assert "exit code 2" in corpus.outcome(["info"])

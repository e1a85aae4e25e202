"""Processes that are forked from one that has computed, as multiprocessing does on Linux by default."""

import multiprocessing
import os
import subprocess
import sys

import numpy as np
import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")

SCRIPT = """
import multiprocessing, sys
import torch
from spikeinterface_nuclr import {imported}, simulate_population

def computed(population):
    from spikeinterface_nuclr import embed, load_checkpoint
    from spikeinterface_nuclr.model.device import limited_threads
    with limited_threads(2):
        model = load_checkpoint()
        return embed(population, model, device="cpu", precision="float32", progress=False).embedding

torch.set_num_threads(2)
population = simulate_population(8, 20.0, 0)
{before}
with multiprocessing.get_context("fork").Pool(2) as pool:
    there = pool.map(computed, [population] * 2)
here = computed(population)
print(torch.get_num_threads(), all(abs(one - here).max() < 1e-5 for one in there))
"""


@pytest.mark.parametrize(
    ("imported", "before"),
    [
        ("embed", "computed(population)"),
        pytest.param("load_checkpoint", "load_checkpoint()", marks=pytest.mark.slow),
    ],
)
def test_a_forked_worker_embeds_whatever_its_parent_has_computed(tmp_path, imported, before):
    """The parent's threads are not copied: a worker that waited for them would wait for ever."""
    script = tmp_path / "workers.py"
    script.write_text(SCRIPT.format(imported=imported, before=before))
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=120)
    assert done.stdout.split() == ["2", "True"], done.stderr


def shares(queue, population, checkpoint):
    from spikeinterface_nuclr import embed

    queue.put(embed(population, checkpoint, device="cpu", precision="float32", progress=False).embedding)


def test_a_worker_computes_what_its_parent_computes(population, checkpoint):
    from spikeinterface_nuclr import embed

    here = embed(population, checkpoint, device="cpu", precision="float32", progress=False).embedding
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    process = context.Process(target=shares, args=(queue, population, checkpoint))
    process.start()
    there = queue.get(timeout=60)
    process.join(timeout=60)
    assert not process.is_alive()
    assert np.abs(here - there).max() < 1e-5

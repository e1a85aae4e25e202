"""Speed of a training step compared with a plain eager float32 step, and the fraction of time spent reading windows.

    python benchmarks/training.py              # widths 128 and 256, and several inputs
    python benchmarks/training.py --quick      # width 128, fewer steps

A step is that of `nuclr train`: eight samples of 64 units in two views, forward, loss, backward, clipping, AdamW, with
the published dropout. The plain step does the same with the network of `plain.py`. The two alternate, so that load on
the machine affects both equally. The store holds 20 sessions of 80 units and one hour. It was just written, so that it
is in the page cache, but each step reads new windows.

Below, steps with different inputs of the first layer, which also alternate: patches of 2 s in bins of 20 ms, counts and
autocorrelograms, four blocks (an earlier starter); and patches of 10 s in bins of 5 ms, two blocks (`--config
laptop`), with each input. Finally, the last of these with views of 64 units each, and with views that have as many
units as they happen to have, as in real training.
"""

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from embedding import poisson_population
from lightning_fabric import Fabric
from plain import Plain

from spikeinterface_nuclr import Encoder, EncoderConfig, PretrainConfig, build_store
from spikeinterface_nuclr.model.device import choose_device, choose_precision
from spikeinterface_nuclr.training.losses import ContrastiveLoss
from spikeinterface_nuclr.training.pretrain import PRECISIONS, Network, Steps, optimizers_of, training_step
from spikeinterface_nuclr.training.views import Recording

SAMPLES, UNITS = 8, 64


class PlainStep:
    """Forward pass, loss, backward pass, clipping and AdamW in float32."""

    def __init__(self, config: PretrainConfig, device):
        self.plain = Plain(config.encoder, Encoder(config.encoder).state_dict()).to(device)
        self.plain.cos, self.plain.sin = self.plain.cos.to(device), self.plain.sin.to(device)
        self.loss = ContrastiveLoss(config.encoder.dim).to(device)
        self.parameters = [*self.plain.parameters(), *self.loss.parameters()]
        self.optimizer = torch.optim.AdamW(self.parameters, lr=config.learning_rate)
        self.device = device

    def __call__(self, patches):
        """patches (2, samples, units, L, P)"""
        patches = patches.to(self.device)
        embeddings = self.plain(patches.flatten(0, 1)).unflatten(0, patches.shape[:2]).flatten(1, 2)
        sizes = [UNITS] * SAMPLES
        units = torch.arange(UNITS, device=self.device).repeat(SAMPLES)
        loss = sum(self.loss(*embeddings, sizes, sizes, units, units).values())
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()


def timed(function, *arguments) -> float:
    """Duration of a call in seconds."""
    began = time.perf_counter()
    function(*arguments)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - began


def compare(dim: int, store, rounds: int, device, precision: str) -> None:
    """Print the rates of both steps, and the fraction of time spent reading."""
    encoder = EncoderConfig(dim=dim, head_dim=dim // 4)
    config = PretrainConfig(encoder=encoder, samples=SAMPLES, min_unit_fraction=1.0, max_units=UNITS, steps=100)
    fabric = Fabric(accelerator=device.type, devices=1, precision=PRECISIONS[precision])
    network = Network(config)
    model, *optimizers = fabric.setup(network, *optimizers_of(network, config))
    steps = Steps([Recording(probe, encoder.layout) for probe in store.probes], config, 0, 1)
    plain = PlainStep(config, device)
    patches = torch.poisson(torch.full((2, SAMPLES, UNITS, encoder.num_patches, encoder.patch_size), 0.1))

    seconds: dict[str, list[float]] = {"plain": [], "ours": [], "reading": []}
    neurons = 0
    for number in range(rounds + 1):
        began = time.perf_counter()
        batches = steps[number]
        reading = time.perf_counter() - began
        times = {
            "plain": timed(plain, patches),
            "ours": timed(training_step, fabric, model, optimizers, batches, config.clip),
            "reading": reading,
        }
        if number:  # the first step is a warm-up
            neurons += sum(len(part) for views in batches for part in views.patches)
            for name, value in times.items():
                seconds[name].append(value)
    plain_rate = 2 * SAMPLES * UNITS / np.median(seconds["plain"])
    our_rate = neurons / rounds / np.median(seconds["ours"])
    share = np.median(seconds["reading"]) / np.median(seconds["ours"])
    print(
        f"dim {dim}: plain float32 {plain_rate:.0f} neuron-windows/s, ours in {precision} {our_rate:.0f} "
        f"({our_rate / plain_rate:.2f} times), reading {100 * share:.1f} % of a step",
        flush=True,
    )


LAYOUTS = {
    "2-s patches, log1p+acg, 2 + 2 blocks": EncoderConfig(
        patch_size=100, input_scale="log1p+acg", dim=128, head_dim=32
    ),
    **{
        f"10-s patches, {scale}, 1 + 1 blocks": EncoderConfig(
            0.005, 2000, 2, input_scale=scale, dim=128, head_dim=32, temporal_blocks=1, spatiotemporal_blocks=1
        )
        for scale in ("log1p", "log1p+acg", "correlograms")
    },
}


def compare_inputs(store, rounds: int, device, precision: str) -> None:
    """Print the rate of training steps with different inputs, and with views of different sizes."""
    fixed = {"min_unit_fraction": 1.0, "max_units": UNITS}
    configs = {
        name: PretrainConfig(encoder=encoder, samples=SAMPLES, steps=100, **fixed) for name, encoder in LAYOUTS.items()
    }
    print_rates(configs, store, rounds, device, precision)
    last = next(reversed(configs.values()))
    print_rates(
        {"views of one size": last, "views of any size": replace(last, min_unit_fraction=0.5)},
        store,
        rounds,
        device,
        precision,
    )


def print_rates(configs: dict[str, PretrainConfig], store, rounds: int, device, precision: str) -> None:
    """Print the rate of training steps with each config, which alternate, and its ratio to the first."""
    trained = {}
    for name, config in configs.items():
        fabric = Fabric(accelerator=device.type, devices=1, precision=PRECISIONS[precision])
        network = Network(config)
        model, *optimizers = fabric.setup(network, *optimizers_of(network, config))
        steps = Steps([Recording(probe, config.encoder.layout) for probe in store.probes], config, 0, 1)
        trained[name] = fabric, model, optimizers, config, steps
    rates: dict[str, list[float]] = {name: [] for name in trained}
    for number in range(rounds + 1):
        for name, (fabric, model, optimizers, config, steps) in trained.items():
            batches = steps[number]
            duration = timed(training_step, fabric, model, optimizers, batches, config.clip)
            if number:  # the first step is a warm-up
                rates[name].append(sum(len(part) for views in batches for part in views.patches) / duration)
    first = np.median(rates[next(iter(rates))])
    for name, values in rates.items():
        print(
            f"{name}: {np.median(values):.0f} neuron-windows/s ({np.median(values) / first:.2f} times the first)",
            flush=True,
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    device = choose_device(options.device)
    precision = choose_precision("auto", device)
    print(f"{device}, torch {torch.__version__}, {torch.get_num_threads()} threads")
    with tempfile.TemporaryDirectory() as folder:
        sessions = [poisson_population(80, 3600.0, seed) for seed in range(4 if options.quick else 20)]
        store, _ = build_store(sessions, Path(folder) / "store", progress=False)
        for dim in (128,) if options.quick else (128, 256):
            compare(dim, store, 3 if options.quick else 9, device, precision)
        compare_inputs(store, 3 if options.quick else 9, device, precision)


if __name__ == "__main__":
    main()

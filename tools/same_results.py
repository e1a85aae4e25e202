"""Print a hash of every result on the sample recordings, to compare two versions of the package bit by bit.

    python tools/same_results.py ../shared/data > before.txt     # on one commit
    python tools/same_results.py ../shared/data | diff before.txt -   # on another

Results are hashed by value and position, not by name, so that renaming a field does not change a hash. Hashes depend on
the processor and on the version of torch: compare runs on the same machine.
"""

import dataclasses
import hashlib
import sys
import tempfile
from pathlib import Path

import h5py
import numpy as np

from spikeinterface_nuclr import (
    Decoder,
    compute_nuclr_embedding,
    compute_nuclr_identity,
    embed,
    evaluate,
    fit_decoder,
    read_nwb,
    read_population,
    simulate_population,
    write_nwb,
)
from spikeinterface_nuclr.simulation import simulate_analyzer

RECORDINGS = (
    "aplysia/*/*da01.nwb",
    "human/p2*/*.nwb",
    "rat-neuropixels/t223/*bank0.nwb",
    "steinmetz/hench/*08.nwb",
    "worm/worm-2022-07-26*.nwb",
    "mouse-ca1-days/c12m4/*-b-3.nwb",
    "formats/*.nwb",
    "formats/phy",
)
DECODER = "simulated-cell-type"


def digest(values) -> str:
    values = np.ascontiguousarray(values)
    content = values.astype(str).tobytes() if values.dtype.kind in "OUS" else values.tobytes()
    return hashlib.sha256(content).hexdigest()[:16]


def arrays_of(result) -> list[str]:
    """Hashes of the arrays of a dataclass, in the order of its fields."""
    values = [getattr(result, field.name) for field in dataclasses.fields(result)]
    return [digest(value) for value in values if isinstance(value, np.ndarray)]


def numbers_in(path: Path) -> list[str]:
    """Sorted hashes of the numeric datasets that this package wrote to an NWB file."""
    hashes = []

    def visit(_, item):
        if isinstance(item, h5py.Dataset) and item.dtype.kind in "fiub":
            hashes.append(digest(item[()]))

    with h5py.File(path) as file:
        file["processing/nuclr"].visititems(visit)
    return sorted(hashes)


def show(name: str, hashes: list[str]) -> None:
    print(name, *hashes, flush=True)


def recordings(data: Path) -> None:
    decoder = Decoder.load(DECODER)
    for pattern in RECORDINGS:
        for path in sorted(data.glob(pattern))[:2]:
            reading = {"sampling_frequency": 30_000.0} if path.is_dir() else {}
            reading |= {"series": "DfOverF"} if "worm" in pattern else {}
            embeddings = embed(read_population(path, **reading), progress=False)
            name = path.relative_to(data).as_posix()
            show(f"embed {name}", arrays_of(embeddings))
            spikes = embeddings.provenance.signal == "spikes"
            identities = [decoder.predict(embeddings)] if spikes else []
            if identities:
                show(f"predict {name}", arrays_of(identities[0]))
            if path.suffix == ".nwb":
                with tempfile.TemporaryDirectory() as folder:
                    output = Path(folder) / path.name
                    write_nwb(path, embeddings, output=output, identities=identities)
                    show(f"NWB {name}", numbers_in(output))
                    embeddings, predicted = read_nwb(output)
                    hashes = [value for result in (embeddings, *predicted) for value in arrays_of(result)]
                    show(f"read_nwb {name}", hashes)


def simulated() -> None:
    populations = [simulate_population(30, 120.0, seed) for seed in range(5)]
    embeddings = [embed(population, progress=False) for population in populations]
    labels = [population.properties["cell_type"] for population in populations]
    animals = [f"animal {k}" for k in range(5)]
    decoder = fit_decoder(embeddings, labels, animals, target="cell_type")
    show("fit_decoder", arrays_of(decoder.predict(embeddings[0])))
    evaluation = evaluate(embeddings, labels, animals, target="cell_type", shuffles=2)
    show("evaluate", [digest(evaluation.to_dataframe().select_dtypes("number").to_numpy())])
    analyzer = simulate_analyzer(20, 60.0, 0)
    for extension in (compute_nuclr_embedding(analyzer), compute_nuclr_identity(analyzer, DECODER)):
        hashes = [digest(value) for value in extension.data.values() if isinstance(value, np.ndarray)]
        show(extension.extension_name, sorted(hashes))


if __name__ == "__main__":
    recordings(Path(sys.argv[1]))
    simulated()

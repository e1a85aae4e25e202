"""nuclr demo: the main use from end to end, on simulated units."""

import csv
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from ..errors import InputError
from .app import app, say
from .options import Device, Overwrite, Quiet

DECODER = "simulated-cell-type"


@app.command()
def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to make.")] = Path("nuclr_demo"),
    units: Annotated[int, typer.Option(help="Units to simulate.")] = 60,
    duration: Annotated[float, typer.Option(help="Seconds to simulate.")] = 300.0,
    seed: Annotated[int, typer.Option(help="Seed of the simulation.")] = 0,
    device: Device = "auto",
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Simulate a probe, build a SortingAnalyzer, embed its units, name their types, and write a table and figures.

    Needs no data and no network. Cell types and regions of the simulated units are known, so the figure shows what
    the bundled model tells apart.
    """
    lines = run_demo(
        output, units=units, duration=duration, seed=seed, device=device, overwrite=overwrite, progress=not quiet
    )
    for line in lines:
        say(line)


def run_demo(
    output, *, units: int = 60, duration: float = 300.0, seed: int = 0, device="auto", overwrite=False, progress=True
) -> list[str]:
    """Simulate a probe, embed its units, predict their types, and write a table, two figures and the embeddings.

    Returns
    -------
    list of str
        What was done and where to look, a line each.
    """
    from ..decoding.decoder import Decoder
    from ..embedding import embed
    from ..files import written_whole
    from ..io import read_population
    from ..simulation import simulate_analyzer
    from ..widgets import plot_nuclr_embedding, plot_nuclr_identity

    output = Path(output)
    if units < 3:
        raise InputError(f"the demo draws a map, which needs three units or more, not {units}")
    if output.exists() and not overwrite:
        raise InputError(f"{output}: exists already: give --overwrite or another name with -o")
    if not output.absolute().parent.is_dir():
        raise InputError(f"{output.absolute().parent}: no such directory: create it first")
    population = read_population(simulate_analyzer(units, duration, seed))
    embeddings = embed(population, device=device, progress=progress)
    labels = {name: population.properties[name] for name in ("cell_type", "brain_area", "depth")}
    identities = Decoder.load(DECODER).predict(embeddings)
    drawn = plot_nuclr_embedding(embeddings, {name.replace("depth", "depth (µm)"): v for name, v in labels.items()})

    try:
        output.mkdir(exist_ok=True)
    except OSError as error:
        raise InputError(f"{output}: cannot be made a folder ({error.strerror}): choose another with -o") from None
    names = ("units.csv", "embedding_map.png", "identities.png", "embeddings.npz")
    table, figure, along, stored = (output / name for name in names)
    embeddings.save(stored, overwrite=overwrite)
    with written_whole(table, overwrite=overwrite) as temporary:
        _write_table(temporary, embeddings, labels, identities)
    with written_whole(figure, overwrite=overwrite) as temporary:
        drawn.figure.savefig(temporary, dpi=150)
    with written_whole(along, overwrite=overwrite) as temporary:
        plot_nuclr_identity(identities, labels["depth"]).figure.savefig(temporary, dpi=150)

    labelled = ~identities.abstained
    right = np.mean(identities.label[labelled] == labels["cell_type"][labelled]) if labelled.any() else 0.0
    same = {name: neighbours_agree(embeddings.embedding, labels[name]) for name in ("cell_type", "brain_area")}
    provenance = embeddings.provenance
    return [
        f"simulated {units} units of 3 cell types in 3 regions for {duration:g} s, as a SortingAnalyzer",
        f"embedded {(embeddings.num_windows > 0).sum()} of them with {provenance.checkpoint} in "
        f"{provenance.windows} windows of {provenance.window_s:g} s ({provenance.device}, "
        f"{provenance.precision})",
        "a unit's nearest neighbour in the embedding is of its own "
        + " and ".join(
            f"{name.replace('_', ' ')} in {share:.0%} (chance {chance:.0%})" for name, (share, chance) in same.items()
        ),
        f"the decoder {DECODER} names the cell type of {labelled.sum()} units, {right:.0%} of them rightly, and "
        f"labels {(~labelled).sum()} 'unknown'",
        f"table: {table}; embeddings: {stored}; figures: {figure}, {along}",
        "next: nuclr embed YOUR_SESSION.nwb -o embeddings.npz",
    ]


def neighbours_agree(embedding: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """How often the nearest neighbour (Euclidean, standardised) has the same label, and how often a random one has."""
    from sklearn.neighbors import NearestNeighbors
    from sklearn.preprocessing import StandardScaler

    known = np.isfinite(embedding).all(axis=1)
    rows, labels = StandardScaler().fit_transform(embedding[known]), labels[known]
    nearest = NearestNeighbors(n_neighbors=1).fit(rows).kneighbors(return_distance=False)[:, 0]
    n, counts = len(labels), np.unique(labels, return_counts=True)[1]
    return float((labels[nearest] == labels).mean()), float((counts * (counts - 1)).sum() / (n * (n - 1)))


def _write_table(path: Path, embeddings, labels: dict, identities) -> None:
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        predicted = ("label", "best_label", "reason", "confidence")
        writer.writerow(["unit_id", *labels, "num_windows", "split_half_similarity", *predicted])
        writer.writerows(
            zip(
                embeddings.unit_ids,
                *labels.values(),
                embeddings.num_windows,
                np.round(embeddings.split_half_similarity, 4),
                identities.label,
                identities.best_label,
                identities.reason,
                np.round(identities.confidence, 4),
                strict=True,
            )
        )

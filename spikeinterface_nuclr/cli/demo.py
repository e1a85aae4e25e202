"""nuclr demo: embeds simulated units and predicts their cell types, end to end."""

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
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write.")] = Path("nuclr_demo"),
    units: Annotated[int, typer.Option(help="Number of units to simulate.")] = 60,
    duration: Annotated[float, typer.Option(help="Duration of the simulated recording in seconds.")] = 300.0,
    seed: Annotated[int, typer.Option(help="Seed of the simulation.")] = 0,
    device: Device = "auto",
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Embed simulated units and predict their cell types.

    Simulates a probe as a SortingAnalyzer, applies the bundled model and decoder, and writes a table, two figures and
    the embeddings. Needs no data and no network. The cell types and regions of simulated units are known, so the
    figures show which of them the model distinguishes.
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
        Lines that summarise the results and name the files.
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
    embedding_map = plot_nuclr_embedding(
        embeddings, {name.replace("depth", "depth (µm)"): values for name, values in labels.items()}
    )

    try:
        output.mkdir(exist_ok=True)
    except OSError as error:
        raise InputError(f"{output}: cannot create the folder ({error.strerror}): choose another with -o") from None
    names = ("units.csv", "embedding_map.png", "identities.png", "embeddings.npz")
    table, map_figure, identity_figure, stored = (output / name for name in names)
    embeddings.save(stored, overwrite=overwrite)
    with written_whole(table, overwrite=overwrite) as temporary:
        _write_table(temporary, embeddings, labels, identities)
    with written_whole(map_figure, overwrite=overwrite) as temporary:
        embedding_map.figure.savefig(temporary, dpi=150)
    with written_whole(identity_figure, overwrite=overwrite) as temporary:
        plot_nuclr_identity(identities, labels["depth"]).figure.savefig(temporary, dpi=150)

    labelled = ~identities.abstained
    accuracy = np.mean(identities.label[labelled] == labels["cell_type"][labelled]) if labelled.any() else 0.0
    agreement = {name: neighbours_agree(embeddings.embedding, labels[name]) for name in ("cell_type", "brain_area")}
    provenance = embeddings.provenance
    return [
        f"simulated {units} units of 3 cell types in 3 regions for {duration:g} s, as a SortingAnalyzer",
        f"embedded {(embeddings.num_windows > 0).sum()} of them with {provenance.checkpoint} in "
        f"{provenance.windows} windows of {provenance.window_s:g} s ({provenance.device}, "
        f"{provenance.precision})",
        "nearest neighbours in the embedding share "
        + " and ".join(
            f"the {name.replace('_', ' ')} in {fraction:.0%} of units (chance {chance:.0%})"
            for name, (fraction, chance) in agreement.items()
        ),
        f"the decoder {DECODER} labels {labelled.sum()} units, {accuracy:.0%} of them correctly; "
        f"{(~labelled).sum()} are 'unknown'",
        f"table: {table}; embeddings: {stored}; figures: {map_figure}, {identity_figure}",
        "next: nuclr embed YOUR_SESSION.nwb -o embeddings.npz",
    ]


def neighbours_agree(embedding: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """Fraction of units whose nearest neighbour (Euclidean, standardised) shares their label, and its chance level."""
    from sklearn.neighbors import NearestNeighbors
    from sklearn.preprocessing import StandardScaler

    embedded = np.isfinite(embedding).all(axis=1)
    rows, labels = StandardScaler().fit_transform(embedding[embedded]), labels[embedded]
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

"""nuclr brainwidebench: writes a decoder's probabilities of the ten Cosmos regions for the leaderboard."""

from pathlib import Path
from typing import Annotated, Optional

import typer

from .app import app, exit_if_skipped, list_skipped, say
from .options import Overwrite, Quiet, Sources, Where

_DEPTHS = "depths"  # property of the sessions' units, in µm along the probe


@app.command()
def brainwidebench(
    sources: Sources,
    decoder: Annotated[
        str, typer.Option(help="Decoder of regions: path of a .safetensors file, or hf:// name.", show_default=False)
    ],
    embeddings: Annotated[
        list[Path],
        typer.Option(
            "--embeddings",
            help="Released embeddings of the sessions (nuclr_embeddings_42.pt): those that the decoder was fitted to. "
            "Repeatable.",
            show_default=False,
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the predictions.", show_default=False)],
    seed: Annotated[int, typer.Option(min=0, help="Seed of the benchmark, such as 42.", show_default=False)],
    name: Annotated[str, typer.Option(help="Name of the submission.")] = "nuclr",
    where: Where = None,
    model: Annotated[
        Optional[str],  # noqa: UP045 (the first versions of typer know no other spelling)
        typer.Option(help="Model that the embeddings are of, if the decoder was fitted with --model."),
    ] = None,
    multi_unit: Annotated[
        bool,
        typer.Option(help="Also write NAME-multi-unit: probabilities averaged over the nearest units on the probe."),
    ] = True,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Write predicted regions of BrainWideBench's sessions for its task unit_cosmos, single- and multi-unit.

    The files are FOLDER/NAME/ts3-unit_cosmos/seed_SEED.safetensors, as the benchmark's scorer reads them. Units without
    an embedding are left out.

    Sessions that cannot be used are skipped and listed; the exit code is then 3.
    """
    import numpy as np
    from tqdm.auto import tqdm

    from ..decoding.brainwidebench import embeddings_of, export_brainwidebench, place_of_predictions
    from ..decoding.cohort import depths_of, released_tables
    from ..decoding.decoder import Decoder
    from ..decoding.neighbours import with_neighbours
    from ..errors import InputError
    from ..files import check_writable
    from ..io import read_population
    from ..io.manifest import list_sources
    from ..model.loading import load_checkpoint

    names = [name, f"{name}-multi-unit"]
    for label in names:
        if (place := place_of_predictions(output, label, seed)).exists():
            check_writable(place, overwrite=overwrite)
    fitted = Decoder.load(decoder)
    # Its own averages are the multi-unit predictions.
    multi_unit = multi_unit and not fitted.neighbours
    released = released_tables(embeddings, model, load_checkpoint(model) if model else None, control=False)
    single, multi, ids, skipped = [], [], [], []
    for source in tqdm(list_sources(sources), desc="predicting", unit="session", disable=quiet):
        try:
            population = read_population(source.source, **source.reading({"where": where}))
            depths = depths_of(population, _DEPTHS, source.name) if multi_unit or fitted.neighbours else None
            places = {"positions": depths, "probes": population.group} if fitted.neighbours else {}
            found = embeddings_of(population, released, source.name)
            identities = fitted.predict(found, target_error=1.0, **places)
            known = np.isfinite(identities.confidence)
            session = population.metadata.get("session", "")
            if multi_unit:
                multi.append(with_neighbours(identities, depths, population.group).select(known))
            single.append(identities.select(known))
            ids.append([f"{session}/{unit}" for unit in population.unit_ids[known]])
        except InputError as error:
            skipped.append(source.refusal(error))
    list_skipped(skipped)
    if not single:
        raise InputError(f"no session can be used: {skipped[0]}")
    for label, predictions in zip(names, (single, multi) if multi_unit else (single,), strict=False):
        path = export_brainwidebench(predictions, output, label, seed=seed, entity_ids=ids, overwrite=overwrite)
        say(f"{path}: {sum(len(part.unit_ids) for part in predictions)} units of {len(predictions)} sessions")
    exit_if_skipped(skipped)

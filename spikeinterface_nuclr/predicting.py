"""What `nuclr predict` does: identities into a table, into an NWB file, or into an analyzer's folder.

Embeddings that are there and up to date are taken; else the recording is embedded with the decoder's model. Each
function gives the line to print.
"""

import dataclasses
import warnings
from pathlib import Path

from .checkpoint import Checkpoint, load_checkpoint
from .commands import Settings
from .decoding.decoder import Decoder
from .embedding import embed
from .errors import CheckpointError, InputError, RecordingWarning
from .extensions import compute_nuclr_embedding, compute_nuclr_identity, computed_embedding, computed_identity
from .files import check_format, check_writable, written_whole
from .identities import Identities
from .nwb.places import check_places, output_of
from .nwb.reading import TABLE, held, stored, table_names
from .nwb.tables import free_name
from .nwb.writing import write_nwb
from .sources import kind_of, read_population
from .sources.nwb_file import open_nwb
from .sources.sortings import load_spikeinterface
from .text import for_csv
from .unit_embeddings import UnitEmbeddings


def predict_to_file(
    source: Path, decoder: str, output: Path, settings: Settings, *, target_error: float, reading: dict, force: bool
) -> str:
    """Write a ``.csv``, one row a unit."""
    check_writable(check_format(output, ".csv"), overwrite=force)
    reader = Decoder.load(decoder)
    _, embeddings = _embeddings(source, reader, settings, reading)
    found = reader.predict(embeddings, target_error=target_error)
    with written_whole(output, overwrite=force) as temporary:
        for_csv(found.to_dataframe()).to_csv(temporary)
    return f"{output}: {_summary(found)}"


def predict_into_nwb(
    source: Path,
    decoder: str,
    output: Path | None,
    settings: Settings,
    *,
    target_error: float,
    reading: dict,
    force: bool,
) -> str:
    """Write identities, and embeddings where there are none, into a copy of an NWB file, or into itself.

    Embeddings by other models, and what was predicted from them, stay.
    """
    in_place = output is None
    output = output_of(source, output, in_place=in_place, units_only=False)
    imaged = reading.get("series") is not None
    check_places(source, output, in_place=in_place, overwrite=force, imaged=imaged)
    reader = Decoder.load(decoder)
    name, embeddings = _embeddings(source, reader, settings, reading)
    found = reader.predict(embeddings, target_error=target_error)
    place = {"in_place": True} if in_place else {"output": output, "overwrite": force}
    write_nwb(source, embeddings, identities=found, name=name, if_exists="replace" if force else "error", **place)
    return f"{output}: {_summary(found)}, in processing/nuclr/{found.target}"


def predict_analyzer(
    source: Path, decoder: str, settings: Settings, *, target_error: float, reading: dict, force: bool
) -> str:
    """Compute nuclr_identity of the analyzer saved in `source`, and nuclr_embedding where it has none; save both."""
    analyzer = load_spikeinterface(source)
    if analyzer.is_read_only():
        raise InputError(f"{source}: is read-only: name a file to write (-o)")
    reader, extension, before = Decoder.load(decoder), computed_embedding(analyzer), computed_identity(analyzer)
    own = extension is not None and _reads(reader, extension.get_embeddings(warn=False))
    if not force and extension and not own:
        raise InputError(f"{source}: its nuclr_embedding is by another model: give --force to replace it")
    if not force and before and before.get_identities(warn=False).target != reader.target:
        raise InputError(f"{source}: its nuclr_identity is of another property: give --force to replace it")
    if not own or extension.stale:
        given = dataclasses.asdict(settings)
        device, progress, model = given.pop("device"), given.pop("progress"), _model(reader, settings)
        with warnings.catch_warnings():
            # They are computed next.
            warnings.filterwarnings("ignore", "nuclr_identity was computed from the previous", RecordingWarning)
            compute_nuclr_embedding(
                analyzer, **{**given, "model": model.name, "model_sha256": model.sha256}, group_by=reading["group_by"],
                torch_device=device, progress_bar=progress,
            )  # fmt: skip
    found = compute_nuclr_identity(analyzer, decoder, target_error=target_error).get_identities()
    return f"{source}: {_summary(found)}, as nuclr_identity"


def _embeddings(source: Path, decoder: Decoder, settings: Settings, reading: dict) -> tuple[str, UnitEmbeddings]:
    """Those that the source holds by the decoder's model, where they are up to date, else new ones; and their name.

    New ones are called as no table of the file is, or as one of the same model that is out of date.
    """
    kind = kind_of(source)
    if kind == "analyzer":
        analyzer = load_spikeinterface(source)  # an extension does not keep its analyzer alive
        extension = computed_embedding(analyzer)
        if extension and not extension.stale and _reads(decoder, extension.get_embeddings(warn=False)):
            return TABLE, extension.get_embeddings(warn=False)
    population, name = read_population(source, **reading), TABLE
    if kind == "nwb":
        with open_nwb(source) as nwbfile:
            tables = {table: stored(nwbfile, table) for table in table_names(nwbfile)}
            taken = held(nwbfile)
        own = {table: found for table, found in tables.items() if _reads(decoder, found.embeddings)}
        for table, found in own.items():
            if not found.stale(population.fingerprint()) and len(found.rows) == population.n_units:
                return table, found.embeddings
        name = next(iter(own), free_name(TABLE, {*taken, *tables}))
    return name, embed(population, **{**dataclasses.asdict(settings), "model": _model(decoder, settings)})


def _reads(decoder: Decoder, embeddings: UnitEmbeddings) -> bool:
    return embeddings.provenance.get("checkpoint_sha256") in decoder.checkpoints


def _model(decoder: Decoder, settings: Settings) -> Checkpoint:
    """The checkpoint that the decoder reads the embeddings of."""
    if len(decoder.checkpoints) > 1:
        raise InputError(f"{decoder.name}: averages several checkpoints: predict with it in Python")
    [sha256] = decoder.checkpoints
    name = settings.model or decoder.card.get("checkpoints", {}).get(sha256)
    try:
        return load_checkpoint(name, sha256=sha256)
    except CheckpointError as error:
        raise CheckpointError(f"{decoder.name}: needs the model that it was fitted with (--model): {error}") from None


def _summary(found: Identities) -> str:
    labelled = int((~found.abstained).sum())
    return f"{found.target} of {labelled} of {len(found.unit_ids)} units, unknown for the others"

"""nuclr step: one step of a pipeline of containers, with the contract of the Allen Institute's ephys pipelines.

A step takes its parameters as JSON, the number of cores from the environment, the recordings from one folder; it writes
results and what it did into another. A recording whose sorting has failed gives empty results and does not stop it.
"""

import json
import os
from datetime import datetime, timezone
from importlib.metadata import metadata, version
from pathlib import Path
from typing import Annotated, Optional

import typer

from ..errors import CheckpointError, DeviceError, InputError, reading, reason_of
from .app import app, say
from .many import check_settings

# Where pipelines say how many cores a step has.
_CORES = ("CO_CPUS", "SLURM_CPUS_ON_NODE", "SLURM_CPUS_PER_TASK")
_EMBEDDING = ("model", "device", "precision", "overlap", "min_spikes", "skip_silence")
_OTHERS = ("group_by", "decoder", "target_error")
_PREFIX = "postprocessed_"


@app.command()
def step(
    params: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Parameters: a JSON object, or a file that holds one.", show_default="{}"),
    ] = None,
    data: Annotated[Path, typer.Option(help="Folder with the recordings, postprocessed_NAME.")] = Path("../data"),
    results: Annotated[Path, typer.Option(help="Folder of the results.")] = Path("../results"),
) -> None:
    """Embed the recordings of a pipeline's step, and predict labels, in a container.

    For each SortingAnalyzer data/postprocessed_NAME it writes nuclr_NAME.npz (embeddings), with a decoder
    nuclr_NAME.csv (one row per unit), and data_process_nuclr_NAME.json (what was done). A recording that cannot be
    used, such as one whose sorting failed, gets empty files.

    Parameters are model, device, precision, overlap, min_spikes, skip_silence, group_by, decoder and target_error, as
    of nuclr embed and nuclr predict. The number of cores is read from CO_CPUS, SLURM_CPUS_ON_NODE or
    SLURM_CPUS_PER_TASK.

    nuclr step --params '{"decoder": "cell_type.safetensors"}'
    """
    from ..embedding import EmbeddingSettings
    from .results import PredictionReader, decoder_of

    given = _parameters(params)
    if not data.is_dir():
        raise InputError(f"{data}: no such folder: name the one with the recordings (--data)")
    _limit_cores()
    settings = EmbeddingSettings(**{name: given[name] for name in _EMBEDDING if name in given}, progress=False)
    check_settings(settings)
    reader = None
    if given.get("decoder") is not None:
        reader = PredictionReader(decoder_of(given["decoder"]), given["decoder"], given.get("target_error"), None)
    elif "target_error" in given:
        raise InputError("params: target_error is for labels that are predicted: give decoder too")
    folders = sorted(folder for folder in data.iterdir() if folder.is_dir() and folder.name.startswith(_PREFIX))
    if not folders:
        raise InputError(f"{data}: holds no folder {_PREFIX}NAME, in which the pipeline leaves its SortingAnalyzers")
    results.mkdir(parents=True, exist_ok=True)
    for folder in folders:
        say(_process(folder, results, settings, reader, given))


def _process(folder: Path, results: Path, settings, reader, given: dict) -> str:
    """Embed one recording and write its files; the line to show."""
    from ..files import written_whole
    from ..text import for_csv
    from .results import model_of, read_recording

    name = folder.name.removeprefix(_PREFIX).removesuffix(".zarr")
    embedded, table = results / f"nuclr_{name}.npz", results / f"nuclr_{name}.csv"
    begin, outputs, missing = datetime.now(timezone.utc), {}, [embedded] if reader is None else [embedded, table]
    try:
        recording = read_recording(folder, {"group_by": given.get("group_by", "group")})
        model = settings.model if reader is None else model_of(reader.fitted, settings.model)
        embeddings = settings.embed(recording.population, _checkpoint(model, recording.population))
        outputs = {
            "total_units": recording.population.n_units,
            "embedded_units": int((embeddings.num_windows > 0).sum()),
        }
        missing.remove(embeddings.save(embedded, overwrite=True))
        if reader is not None:
            prediction = reader.predict(embeddings, recording.population)
            outputs["labelled_units"] = int((~prediction.abstained).sum())
            with written_whole(table, overwrite=True) as temporary:
                for_csv(prediction.to_dataframe()).to_csv(temporary)
            missing.remove(table)
        notes = ", ".join(f"{key.replace('_', ' ')}: {value}" for key, value in outputs.items())
    except (CheckpointError, DeviceError):  # wrong for every recording
        raise
    except InputError as error:
        notes = f"refused: {reason_of(error)}"
    for file in missing:
        with written_whole(file, overwrite=True) as temporary:
            temporary.touch()
    facts = _data_process(name, given, outputs, notes, begin, results)
    with written_whole(results / f"data_process_nuclr_{name}.json", overwrite=True) as temporary:
        temporary.write_text(json.dumps(facts, indent=3), encoding="utf-8")
    return f"{name}: {notes}"


def _checkpoint(model, population):
    from ..model.loading import load_checkpoint

    return load_checkpoint(model, signal=population.signal)


def _data_process(name: str, given: dict, outputs: dict, notes: str, begin: datetime, results: Path) -> dict:
    """What was done, with the fields of a DataProcess of aind-data-schema 2."""
    return {
        "object_type": "Data process",
        "process_type": "Other",
        "name": f"NuCLR embedding {name}",
        "stage": "Processing",
        "code": {
            "object_type": "Code",
            "url": metadata("spikeinterface-nuclr")["Project-URL"].partition(", ")[2],
            "name": "nuclr step",
            "version": version("spikeinterface-nuclr"),
            "parameters": {**given, "recording_name": name},
        },
        "experimenters": ["nuclr step"],
        "start_date_time": begin.isoformat(),
        "end_date_time": datetime.now(timezone.utc).isoformat(),
        "output_path": str(results),
        "output_parameters": outputs,
        "notes": notes,
    }


def _parameters(text: str | None) -> dict:
    """The parameters in a JSON object, or in a file that holds one; InputError for one that is unknown."""
    if text is None:
        return {}
    if not text.lstrip().startswith("{"):
        if not Path(text).is_file():
            raise InputError(f"params: {text[:80]}: is no JSON object, and no file")
        text = Path(text).read_text(encoding="utf-8")
    with reading("params", "JSON object", 'give one, such as {"min_spikes": 2}'):
        given = json.loads(text)
    if not isinstance(given, dict):
        raise InputError("params: is no JSON object")
    unknown = sorted(given.keys() - {*_EMBEDDING, *_OTHERS})
    if unknown:
        raise InputError(f"params: {unknown[0]} is unknown; it takes {', '.join((*_EMBEDDING, *_OTHERS))}")
    return given


def _limit_cores() -> None:
    """Use as many cores as the pipeline gives the step."""
    name = next((name for name in _CORES if os.environ.get(name)), None)
    if name is None:
        return
    given = os.environ[name]
    if not given.isdecimal() or int(given) < 1:
        raise InputError(f"{name}={given}: is no number of cores")
    import torch

    torch.set_num_threads(int(given))

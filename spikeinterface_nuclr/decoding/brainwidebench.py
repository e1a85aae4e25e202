"""BrainWideBench: its released embeddings, and export of predictions for `unit_cosmos`, the ten Cosmos regions."""

import hashlib
import re
import warnings
from pathlib import Path

import numpy as np

from ..errors import CheckpointError, InputError, RecordingWarning, reason_of
from ..files import written_whole
from ..model.checkpoint import Checkpoint
from ..model.pickled import Pickled, Tensor, Texts
from ..population import Population
from ..predictions import Identities
from ..unit_embeddings import UnitEmbeddings
from .labelled import Recording
from .regions import COSMOS, roll_up

TASK = "ts3-unit_cosmos"


_PARTS = ("train", "eval")


def read_brainwidebench_embeddings(path, *, checkpoint: Checkpoint | None = None) -> dict[str, UnitEmbeddings]:
    """Read the released embeddings of BrainWideBench's units (``nuclr_embeddings_42.pt`` …) without running code.

    Parameters
    ----------
    path : path
    checkpoint : Checkpoint, optional
        The model that computed them, such as the converted ``nuclr_42.pt``. Decoders that are fitted to them then read
        embeddings of this model. Default: they read those of this file only.

    Returns
    -------
    dict of str to UnitEmbeddings
        For each session id, embeddings with the unit ids of the session's file, by which they are joined to its units.
        Numbers of windows and split-half similarities are unknown: 1, or 0 for rows of NaN, and NaN.

    Raises
    ------
    CheckpointError
        The file is damaged, would run code, or holds no embeddings with ids.

    Examples
    --------
    >>> import numpy as np, torch
    >>> from spikeinterface_nuclr import read_brainwidebench_embeddings
    >>> uids = np.array(["session-1/unit-1", "session-1/unit-2"])
    >>> torch.save({"train_embs": torch.rand(2, 4), "train_uids": uids, "run_seed": 42}, "nuclr_embeddings_42.pt")
    >>> read_brainwidebench_embeddings("nuclr_embeddings_42.pt")["session-1"].unit_ids.tolist()
    ['unit-1', 'unit-2']
    """
    path = Path(path)
    with Pickled(path, texts=True) as file:
        content = file.content
        try:
            parts = [_part(file, content, part) for part in _PARTS if f"{part}_embs" in content]
            seed = content.get("run_seed")
            if not parts:
                raise ValueError("it lacks train_embs and eval_embs")
            uids, rows = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
            if len(np.unique(uids)) < len(uids):
                raise ValueError("an id occurs twice")
            sessions, _, units = np.char.rpartition(uids, "/").T
        except Exception as error:  # any error may result from another layout
            raise CheckpointError(f"{path}: does not hold released embeddings ({reason_of(error)})") from None
    if checkpoint is not None:
        _check_model(path, checkpoint, rows.shape[1], seed)
    provenance = {
        "checkpoint": checkpoint.name if checkpoint else path.name,
        "checkpoint_sha256": checkpoint.sha256 if checkpoint else hashlib.sha256(rows.tobytes()).hexdigest(),
        "released_seed": seed if isinstance(seed, int) else None,
    }
    found, (names, which) = {}, np.unique(sessions, return_inverse=True)
    first = np.searchsorted(np.sort(which), np.arange(1, len(names)))
    for session, of_session in zip(names.tolist(), np.split(np.argsort(which, kind="stable"), first), strict=True):
        windows = np.isfinite(rows[of_session]).all(axis=1).astype(np.int64)
        unknown = np.full(len(of_session), np.nan, dtype=np.float32)
        found[session] = UnitEmbeddings(units[of_session], rows[of_session], windows, unknown, provenance)
    return found


def _check_model(path: Path, checkpoint: Checkpoint, width: int, seed) -> None:
    """CheckpointError if these rows cannot be of a model; a RecordingWarning if they seem to be of another seed."""
    config = checkpoint.config
    if config.members > 1 or config.dim != width:
        raise CheckpointError(
            f"{path}: its embeddings have {width} dimensions, those of {checkpoint.name} {config.embedding_dim}: name "
            "the model that computed them"
        )
    named = re.search(r"nuclr_(\d+)", checkpoint.name)
    if named and isinstance(seed, int) and int(named[1]) != seed:
        warnings.warn(
            f"{path}: is of seed {seed}, and {checkpoint.name} seems to be of another: name the model that computed it",
            RecordingWarning,
            stacklevel=3,
        )


def embeddings_of(population: Population, released: list[dict[str, UnitEmbeddings]], name: str) -> Recording:
    """The released embeddings of a session's units, in their order; of several files, a tuple.

    Parameters
    ----------
    population : Population
        With the session's id in its metadata.
    released : list of dict
        Results of `read_brainwidebench_embeddings`.
    name : str
        The recording, for messages.

    Raises
    ------
    InputError
        The session, or all of its units, are not in a file.
    """
    session = str(population.metadata.get("session", ""))
    ids, parts = population.unit_ids.astype(str), []
    for of_file in released:
        if session not in of_file:
            raise InputError(f"{name}: the released embeddings hold no session {session!r}")
        found = of_file[session]
        row = {unit: k for k, unit in enumerate(found.unit_ids.tolist())}
        index = np.array([row.get(unit, -1) for unit in ids.tolist()])
        if (index < 0).all():
            raise InputError(f"{name}: the released embeddings hold none of its units, such as {ids[0]}")
        rows = np.where(index[:, None] < 0, np.nan, found.embedding[index]).astype(np.float32)
        windows = np.where(index < 0, 0, found.num_windows[index])
        provenance = found.provenance.replace(source=dict(population.metadata))
        unknown = np.full(len(ids), np.nan, dtype=np.float32)
        parts.append(UnitEmbeddings(population.unit_ids, rows, windows, unknown, provenance))
    return parts[0] if len(parts) == 1 else tuple(parts)


def _part(file: Pickled, content: dict, part: str) -> tuple[np.ndarray, np.ndarray]:
    """Ids (n,) and embeddings (n, dim) of the training or evaluation units."""
    rows, uids = content[f"{part}_embs"], content[f"{part}_uids"]
    if not isinstance(rows, Tensor) or not isinstance(uids, Texts):
        raise ValueError(f"{part}_embs is no tensor, or {part}_uids no array of text")
    names = uids.values()
    values = file.tensor(rows).float().numpy().copy()
    if values.ndim != 2 or len(values) != len(names):
        raise ValueError(f"{part}_embs has shape {values.shape} for {len(names)} ids")
    if not len(names) or not all("/" in name for name in names.tolist()):
        raise ValueError(f"{part}_uids are not of the form SESSION/UNIT")
    return names, values


def export_brainwidebench(
    identities: list[Identities], folder, label: str, *, seed: int, entity_ids=None, overwrite: bool = False
) -> Path:
    """Write probabilities of the ten regions for `ibl_bwb_eval.scoring.ts3`.

    Parameters
    ----------
    identities : list of Identities
        One per recording. Classes are acronyms of the Allen atlas; those in one Cosmos region are summed.
    folder : path
        The file is ``folder/label/ts3-unit_cosmos/seed_SEED.safetensors``.
    label : str
        Name of the submission.
    seed : int
        One of the benchmark's seeds.
    entity_ids : list of arrays of str, optional
        The benchmark's id of each unit, one array per recording. Default: the unit ids.

    Returns
    -------
    Path

    Raises
    ------
    InputError
        A class is in none of the ten regions, a unit has no probabilities, or ids are empty, not ASCII or duplicated.

    Examples
    --------
    >>> import numpy as np
    >>> from spikeinterface_nuclr import Identities, export_brainwidebench
    >>> probability = np.array([[0.9, 0.1], [0.2, 0.8]], dtype=np.float32)
    >>> identities = Identities(
    ...     "region", np.array(["u1", "u2"]), np.array(["CA1", "VISp5"]), np.array(["CA1", "VISp5"]), probability,
    ...     probability.max(axis=1), np.array(["", ""]), provenance={},
    ... )
    >>> export_brainwidebench([identities], "predictions", "nuclr", seed=42).name
    'seed_42.safetensors'
    """
    from safetensors.numpy import save_file

    path = place_of_predictions(folder, label, seed)
    entity_ids = [recording.unit_ids for recording in identities] if entity_ids is None else entity_ids
    ids = np.concatenate([np.asarray(part).astype(str) for part in entity_ids])
    probability = np.concatenate([_cosmos(recording) for recording in identities])
    if not len(ids):
        raise InputError("no unit has probabilities: embed the units first")
    if len(ids) != len(probability):
        raise InputError(f"entity_ids has {len(ids)} ids for {len(probability)} units: give one per unit")
    if len(np.unique(ids)) < len(ids):
        values, counts = np.unique(ids, return_counts=True)
        raise InputError(f"unit {values[counts > 1][0]} occurs twice: give the benchmark's ids (entity_ids=)")
    if not all(text and text.isascii() for text in ids.tolist()):
        raise InputError("an id is empty or not ASCII: give the benchmark's ids (entity_ids=)")
    missing = np.isnan(probability).any(axis=1)
    if missing.any():
        raise InputError(f"unit {ids[missing][0]} has no probabilities: leave it out, or embed it")
    path.parent.mkdir(parents=True, exist_ok=True)
    encoded = np.array([text.encode() for text in ids.tolist()])
    arrays = {
        "entity_ids": encoded.view(np.uint8).reshape(len(ids), -1),
        "pred_proba": np.ascontiguousarray(probability, dtype=np.float32),
    }
    metadata = {"label": label, "task": TASK, "seed": str(seed), "label_names": ",".join(COSMOS)}
    with written_whole(path, overwrite=overwrite) as temporary:
        save_file(arrays, temporary, metadata)
    return path


def place_of_predictions(folder, label: str, seed: int) -> Path:
    """The file of a submission; InputError unless its label is a plain name."""
    if label in ("", ".", "..") or "/" in label or "\\" in label or seed < 0:
        raise InputError(f"label {label!r} and seed {seed} name no file: give a plain name, and a seed from 0 on")
    return Path(folder) / label / TASK / f"seed_{seed}.safetensors"


def _cosmos(identities: Identities) -> np.ndarray:
    """Probabilities in the order of the ten regions: float array, shape (n_units, 10)."""
    regions = roll_up(identities.classes, "cosmos")
    if (regions == "").any():
        outside = str(identities.classes[regions == ""][0])
        raise InputError(f"class {outside!r} is in none of the ten regions of {TASK}: fit the decoder without it")
    return np.stack([identities.probability[:, regions == name].sum(axis=1) for name in COSMOS], axis=1)

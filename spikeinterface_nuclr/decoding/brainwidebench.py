"""Export of predictions to BrainWideBench: task `unit_cosmos`, the ten Cosmos regions in IBL recordings."""

from pathlib import Path

import numpy as np

from ..errors import InputError
from ..files import written_whole
from ..predictions import Identities
from .regions import COSMOS, roll_up

TASK = "ts3-unit_cosmos"


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

    entity_ids = [recording.unit_ids for recording in identities] if entity_ids is None else entity_ids
    ids = np.concatenate([np.asarray(part).astype(str) for part in entity_ids])
    probability = np.concatenate([_cosmos(recording) for recording in identities])
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
    path = Path(folder) / label / TASK / f"seed_{seed}.safetensors"
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


def _cosmos(identities: Identities) -> np.ndarray:
    """Probabilities in the order of the ten regions: float array, shape (n_units, 10)."""
    regions = roll_up(identities.classes, "cosmos")
    if (regions == "").any():
        outside = str(identities.classes[regions == ""][0])
        raise InputError(f"class {outside!r} is in none of the ten regions of {TASK}: fit the decoder without it")
    return np.stack([identities.probability[:, regions == name].sum(axis=1) for name in COSMOS], axis=1)

"""fit_decoder: fits a decoder of classes to labelled units."""

import warnings

import numpy as np

from ..errors import InputError, RecordingWarning
from .calibration import name_of
from .classifier import HeldOut, fit_classifier
from .decoder import Decoder
from .labelled import Labelled, check_fit, facts_of, label_units, per_recording
from .neighbours import pooled
from .novelty import Reference, fit_reference
from .parallel import on_one_thread
from .readout import Readout, check_readout
from .reference_units import REFERENCE_UNITS, ReferenceUnits

# Classes with fewer units get a warning.
_FEW = 5


def fit_decoder(
    embeddings,
    labels,
    animals=None,
    *,
    target: str,
    features=None,
    positions=None,
    probes=None,
    readout: str = "linear",
    balanced: bool = True,
    card: dict | None = None,
    seed: int = 0,
) -> Decoder:
    """Fit a decoder of classes to labelled units; for numbers, use `fit_regressor`.

    Embeddings are standardised and classified by multinomial logistic regression (as in Arora et al. 2025), of the
    embeddings themselves or of a kernel of them. Probabilities are calibrated by temperature scaling (Guo et al. 2017)
    if that helps. The regularisation strength, the width of the kernel, the temperatures, the abstention threshold and
    the scale of novelty are chosen by cross-validation over animals, in up to five folds.

    Parameters
    ----------
    embeddings : UnitEmbeddings, tuple of UnitEmbeddings, or list of these
        One recording or a list of recordings. A tuple contains embeddings of the same units by several checkpoints,
        whose probabilities are averaged.
    labels : array of shape (n_units,), or list of such arrays
        Labels of each recording: text, or integer codes of up to 50 classes (with at least two units per class on
        average). Units without a label are left out: None, NaN, and text that is empty or reads, in upper or lower
        case, "nan", "none", "na", "n/a", "null", "unknown" or "unlabeled".
    animals : str or array of shape (n_units,), or list of these
        Animal of each recording, or of each unit. Default: the subject in the recording's metadata.
    target : str
        Name of the label, such as "cell_type".
    features : pandas DataFrame or list of DataFrames, optional
        Other features of each unit, such as SpikeInterface's metrics. They get a classifier of their own, whose
        probabilities are averaged with those of the embeddings.
    positions, probes : list of arrays, optional
        Positions of the units of each recording in µm, (n_units,) or (n_units, d), and their probes (default: one
        probe). The decoder then averages the probabilities of each unit and its neighbours, the five nearest units
        within 60 µm on the probe, which suits brain regions; thresholds are chosen for these averages. `predict` needs
        positions too.
    readout : {"linear", "kernel"}
        "kernel", Gaussian functions at some training units, also finds classes that no linear map separates. The
        linear read-out shows what an embedding represents explicitly, and needs fewer labels.
    balanced : bool, default: True
        Weight classes equally, however many units they have.
    card : dict, optional
        Description to store in the decoder's card. It cannot replace the entries that the fit adds.
    seed : int, default: 0

    Returns
    -------
    Decoder

    Raises
    ------
    InputError
        A recording or class cannot be used (the message names it), or the labels are continuous numbers.

    Warns
    -----
    RecordingWarning
        There is a single animal, or a class has few units or occurs in a single animal; names of two animals differ
        only by case or blanks; or units are labelled "NA".

    Examples
    --------
    >>> from spikeinterface_nuclr import embed, fit_decoder, simulate_population
    >>> populations = [simulate_population(20, 30.0, seed=seed) for seed in range(3)]
    >>> embeddings = [embed(population, progress=False) for population in populations]
    >>> labels = [population.properties["cell_type"] for population in populations]
    >>> decoder = fit_decoder(embeddings, labels, target="cell_type")
    >>> path = decoder.save("cell_type.safetensors")
    >>> len(decoder.animals)
    3
    """
    check_fit(target, card, seed)
    check_readout(readout)
    labelled = label_units(embeddings, labels, animals, features)
    _warn_of_classes(labelled)
    classifier, held_out = on_one_thread(fit_classifier, labelled, readout=readout, balanced=balanced, seed=seed)
    predicted = held_out.predicted
    if positions is not None:
        recordings = embeddings if isinstance(embeddings, list) else [embeddings]
        predicted = _pooled_left_out(predicted, labelled.select(held_out.units), recordings, positions, probes)
    confidence = predicted.max(axis=1)
    references, kept = _fit_references(labelled, classifier.readouts, held_out, seed)
    facts = {
        "readout": readout, "balanced": balanced, "calibration": name_of(classifier.temperatures),
        REFERENCE_UNITS: ReferenceUnits.of(labelled.select(held_out.units[kept]), embeddings).to_card(),
    }  # fmt: skip
    return Decoder(
        target,
        classifier,
        references,
        confidence.astype(np.float32),
        predicted.argmax(axis=1) == held_out.truth,
        held_out.clusters,
        labelled.columns,
        tuple(labelled.animal_names),
        {**(card or {}), **facts_of(labelled, embeddings, held_out.left_out, seed), **facts},
        neighbours=positions is not None,
    )


def _pooled_left_out(predicted: np.ndarray, units: Labelled, recordings: list, positions, probes) -> np.ndarray:
    """Predictions on left-out units (n, k), averaged over neighbours among the labelled units of their recording."""
    positions = per_recording("positions", positions, recordings)
    probes = None if probes is None else per_recording("probes", probes, recordings)
    averaged = predicted.copy()
    for number in np.unique(units.recordings):
        rows = np.flatnonzero(units.recordings == number)
        at = units.units[rows]
        probe = np.zeros(len(rows)) if probes is None else np.asarray(probes[number])[at]
        try:
            position = np.asarray(positions[number], dtype=float)[at]
        except (TypeError, ValueError):
            raise InputError("positions must be numbers, in µm") from None
        averaged[rows] = pooled(predicted[rows], position, probe)
    return averaged


def _fit_references(
    labelled: Labelled, readouts: dict[str, Readout], held_out: HeldOut, seed: int
) -> tuple[dict[str, Reference], np.ndarray]:
    """The reference for novelty in the embeddings of each checkpoint; which of the left-out units all of them keep."""
    references, kept = {}, np.empty(0, dtype=np.int64)
    for name, rows in labelled.without_features().tables.items():
        standardised = readouts[name].standardised(rows[held_out.units])
        references[name], kept = fit_reference(standardised, held_out.folds, seed)
    return references, kept


def _warn_of_classes(labelled: Labelled) -> None:
    def warn(text: str) -> None:
        warnings.warn(text, RecordingWarning, stacklevel=4)

    if len(labelled.animal_names) == 1:
        warn(
            f"one animal only ({labelled.animal_names[0]}): probabilities are calibrated on its own units, the error "
            "in other animals is unknown, and the decoder gives labels only with target_error=1"
        )
    for name in np.unique(labelled.labels).tolist():
        units = labelled.labels == name
        if units.sum() < _FEW:
            warn(f"class {name!r} has {units.sum()} units: too few to learn from")
        elif len(labelled.animal_names) > 1 and len(np.unique(labelled.animals[units])) == 1:
            warn(
                f"class {name!r} was seen in one animal, {labelled.animals[units][0]}: the decoder may recognise the "
                "animal instead of the class"
            )

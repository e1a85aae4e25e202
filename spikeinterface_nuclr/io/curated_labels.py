"""Labels that a person has entered in spikeinterface-gui, saved with an analyzer: its curation, of version 2."""

import json
from pathlib import Path

import numpy as np
from spikeinterface.core import SortingAnalyzer

from ..errors import InputError, reading
from ..files import written_whole

# Where spikeinterface-gui looks for the curation of an analyzer in a binary folder.
_PLACE = Path("spikeinterface_gui") / "curation_data.json"
_LARGEST = 50_000_000  # bytes
# Kinds of labels that hold predictions begin so.
PREDICTED = "nuclr_"


def curation_file(analyzer: SortingAnalyzer) -> Path | None:
    """The file of an analyzer's curation: in its folder, for Zarr beside it; None for an analyzer in memory."""
    if analyzer.format == "memory":
        return None
    folder = Path(analyzer.folder)
    return folder / _PLACE if analyzer.format == "binary_folder" else folder.with_name(f"{folder.stem}_curation.json")


def read_curation(path: Path) -> dict | None:
    """The curation in a file; None if there is none.

    Raises
    ------
    InputError
        The file is damaged.
    """
    if not path.is_file():
        return None
    if path.stat().st_size > _LARGEST:
        raise InputError(f"{path}: too long for a curation: move it away")
    with reading(path, "curation", "save it again"):
        curation = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(curation, dict):
        raise InputError(f"{path}: not a curation: save it again")
    return curation


def write_curation(path: Path, curation: dict) -> Path:
    """Write a curation completely, in place of an earlier one."""
    path.parent.mkdir(exist_ok=True)
    with written_whole(path, overwrite=True) as temporary:
        temporary.write_text(json.dumps(curation, indent=4), encoding="utf-8")
    return path


def is_of_units(curation: dict, analyzer: SortingAnalyzer) -> bool:
    """Whether a curation is of the units of an analyzer."""
    units = curation.get("unit_ids")
    return isinstance(units, list) and {*map(str, units)} == {*map(str, analyzer.unit_ids.tolist())}


def labels_of(entry: dict) -> dict:
    """Labels of one unit in a curation, by their kind: under "labels", or beside the unit."""
    return dict(entry.get("labels") or {name: value for name, value in entry.items() if name != "unit_id"})


def curated_labels(analyzer: SortingAnalyzer) -> dict[str, np.ndarray]:
    """Labels of the analyzer's units in its saved curation: str arrays (n_units,), "" without one, by kind.

    Left out are kinds that admit several labels of one unit, and predictions, which nobody has entered.

    Raises
    ------
    InputError
        The curation is damaged, or of other units.
    """
    path = curation_file(analyzer)
    curation = None if path is None else read_curation(path)
    if curation is None:
        return {}
    row = {str(unit): k for k, unit in enumerate(analyzer.unit_ids.tolist())}
    if not is_of_units(curation, analyzer):
        raise InputError(f"{path}: a curation of other units than the analyzer's: move the file away")
    with reading(path, "curation", "save it again"):
        definitions = (curation.get("label_definitions") or {}).items()
        kinds = [name for name, kind in definitions if kind.get("exclusive") and not name.startswith(PREDICTED)]
        entries = [(str(entry["unit_id"]), labels_of(entry)) for entry in curation["manual_labels"] or []]
        found = {kind: np.full(len(row), "", dtype=object) for kind in kinds}
        for unit, labels in entries:
            for kind in kinds if unit in row else ():
                if label := labels.get(kind):
                    found[kind][row[unit]] = str(label[0] if isinstance(label, list) else label)
    return {kind: values.astype(str) for kind, values in found.items() if (values != "").any()}

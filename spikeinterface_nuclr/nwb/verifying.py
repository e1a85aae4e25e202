"""What must hold of a copy before it may take the place of a file."""

import warnings
from pathlib import Path

import numpy as np

from ..errors import InputError, RecordingWarning, reason_of
from ..sources.nwb_file import io_class, open_nwb
from .plan import Part, Plan
from .reading import held, stored_identities, stored_table
from .rows import texts

_OF_EMBEDDINGS = ("embedding", "window_count", "stability")
_OF_IDENTITIES = ("classes", "best_label", "reason", "probability", "confidence")


def check_valid(original: Path, copy: Path) -> None:
    """InputError where pynwb finds fault with the copy that it does not find with the original.

    RecordingWarning where pynwb cannot validate the original at all, as where its specifications are incomplete.
    """
    try:
        faults = _faults(copy)
    except Exception as problem:  # pynwb raises what it pleases on specifications that it cannot use
        if _can_be_validated(original):
            raise
        warnings.warn(
            f"{original}: pynwb cannot validate it ({reason_of(problem)}): what was written is only compared with it "
            "object by object, and read back",
            RecordingWarning,
            stacklevel=2,
        )
        return
    if faults:
        faults -= _faults(original)
    if faults:
        raise InputError(f"{original}: the copy would not be valid NWB ({min(faults)}): nothing was written")


def _can_be_validated(path: Path) -> bool:
    try:
        _faults(path)
    except Exception:
        return False
    return True


def check_read_back(copy: Path, plan: Plan) -> None:
    """InputError where reading the copy does not give what was planned."""
    with open_nwb(copy) as nwbfile:
        same = all(_comes_back(nwbfile, part) for part in plan.parts)
    if not same:
        raise InputError(f"{copy}: what was written does not come back: nothing was kept; report this, with the file")


def _comes_back(nwbfile, part: Part) -> bool:
    found = stored_table(nwbfile, part.name)
    same = np.array_equal(found.rows, part.rows) and _same_rows(found.embeddings, part.embeddings, _OF_EMBEDDINGS)
    for name, written in part.identities.items():
        read = stored_identities(nwbfile, name, found)
        columns = _OF_IDENTITIES if written.novelty is None else (*_OF_IDENTITIES, "novelty")
        same &= read.target == written.target and _same_rows(read, written, columns)
        # Read by others only: ours derives it.
        same &= texts(held(nwbfile)[name]["label"].data[:]) == written.label.tolist()
    return same


def _same_rows(read, written, columns: tuple[str, ...]) -> bool:
    """Whether the units, by name, and these columns are those that were written."""
    same = [str(unit) for unit in read.unit_ids] == [str(unit) for unit in written.unit_ids]
    for name in columns:
        a, b = np.asarray(getattr(read, name)), np.asarray(getattr(written, name))
        same &= np.array_equal(a, b.astype(a.dtype), equal_nan=a.dtype.kind == "f")
    return same


def _faults(path: Path) -> set[str]:
    import pynwb

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if path.is_dir():
            with io_class(path)(str(path), mode="r") as io:
                found = pynwb.validate(io=io)
        else:
            found = pynwb.validate(path=str(path))
    return {str(fault) for fault in found}

"""The probe of each unit: from a property of the units, else from the electrodes or channels of the source."""

import re
import warnings
from dataclasses import dataclass

import numpy as np

from ..errors import InputError, RecordingWarning
from .columns import as_names

# Words of curation. Some tools write such labels into a column "group"; they do not name probes.
_CURATION = re.compile(
    "good|bad|ok|poor|fair|excellent|clean|dirty|low|medium|high|quality|activity|su|sua|mu|mua|single|multi|units?"
    "|isolated|contaminated|noisy?|noise|art[ie]facts?|junk|unsorted|sorted|merged?|split|duplicate|accept(ed)?"
    "|reject(ed)?|keep|discard(ed)?|includ(ed?)|exclud(ed?)|valid|invalid|todo|maybe|unsure|uncertain|unclassified"
    "|unlabell?ed|unknown|undecided|neural|non|nonneural|somatic|nonsomatic|neurons?|nan|none|null|na|true|false|yes|no"
)
# Words in the names of probes and their parts.
_PROBES = re.compile(r"\d|probe|shank|tetrode|electrode|array|imec|bank|stereotrode|octrode|left|right", re.I)


@dataclass(frozen=True)
class Probes:
    """The probes that a source states.

    Attributes
    ----------
    members : str
        Members of the groups: "electrodes" or "channels".
    names : tuple of str
        Names of the groups of electrodes or channels.
    labels : array of str, shape (n_units,), or None
        Group of each unit, empty if it has none. None if the source does not state it.
    remedy : str
        How the user can assign units to groups, for messages.
    aliases : tuple of str
        Other names of the groups, such as those of their devices.
    """

    members: str = "electrodes"
    names: tuple[str, ...] = ()
    labels: np.ndarray | None = None
    remedy: str = ""
    aliases: tuple[str, ...] = ()

    def of_units(self, name: str) -> np.ndarray | None:
        """Group of each unit; None for a single probe. Raise InputError for several probes without assigned units."""
        if self.labels is None and len(self.names) > 1:
            raise InputError(
                f"{name}: its {self.members} form {len(self.names)} groups, and which unit belongs to which "
                f"is unknown: {self.remedy}, or give group_by=None for one population"
            )
        return self.labels


def choose_group(name: str, properties: dict, group_by: str | None, find_probes=Probes):
    """Probe of each unit: the named property, else the probes that the source states, else a single one.

    A property "group" may contain values other than probes, such as curation labels. It is used if its values name
    the source's own probes, or look like numbers or names of probes, and do not join units whose electrodes belong to
    several probes. A RecordingWarning lists the values if they divide the only group that the source states, or if
    neither values nor electrodes decide.

    Parameters
    ----------
    name : str
        The source, for messages.
    properties : dict of str to array
    group_by : str or None
    find_probes : callable
        Returns the `Probes` of the source. Not called if `group_by` names another property, or is None.

    Raises
    ------
    InputError
        The requested property (other than the default "group") is absent, or units cannot be assigned to probes.
    """
    if group_by is None:
        return None
    if group_by != "group":
        if group_by not in properties:
            available = ", ".join(sorted(properties)) or "none"
            raise InputError(f"{name}: it has no unit property {group_by!r} to group by; it has: {available}")
        return as_names(properties[group_by])
    probes = find_probes()
    values = as_names(properties["group"]) if "group" in properties else np.empty(0, dtype=str)
    labels = sorted(set(values.tolist()) - {""})
    named = bool(labels) and {*labels} <= {*probes.names, *probes.aliases}
    curation = [_is_curation(label) for label in labels]
    if all(curation) and not named:  # also without labels
        return probes.of_units(name)
    if (any(curation) and not named) or _contradicts(values, probes):
        return _without_property(name, labels, probes)
    if named:
        return values
    probe_like = all(_PROBES.search(label) for label in labels)
    if probes.names and not probe_like:
        return _without_property(name, labels, probes)
    if not probe_like or _divides(values, probes):
        warnings.warn(
            f"{name}: the property group is used as the probe of each unit ({_listed(labels)}): give group_by=None "
            "for one population if it holds something else",
            RecordingWarning,
            stacklevel=4,
        )
    return values


def most_common(values: np.ndarray) -> str:
    """The text that occurs most often among `values`; empty if there is none."""
    if len(values) == 0:
        return ""
    names, counts = np.unique(values, return_counts=True)
    return str(names[counts.argmax()])


def _is_curation(label: str) -> bool:
    words = re.findall(r"[^\W\d_]+", label.lower())
    return bool(words) and all(_CURATION.fullmatch(word) for word in words)


def _contradicts(values: np.ndarray, probes: Probes) -> bool:
    """Whether a value joins units of several groups of the source without naming what these have in common.

    Values that only combine whole groups, such as numbers of probes with several shanks, do not contradict them.
    """
    if probes.labels is None:
        return False
    pairs = {pair for pair in zip(values.tolist(), probes.labels.tolist(), strict=True) if all(pair)}
    n_values, n_labels = len({value for value, _ in pairs}), len({label for _, label in pairs})
    joins, divides = len(pairs) > n_values, len(pairs) > n_labels
    return joins and (divides or (n_values == 1 and not {value for value, _ in pairs} <= {*probes.aliases}))


def _divides(values: np.ndarray, probes: Probes) -> bool:
    """Whether the values divide the only group that the source states, as shanks or curation codes do."""
    groups = probes.names if probes.labels is None else probes.labels.tolist()
    return len(set(groups)) == 1 and len(set(values.tolist())) > 1


def _without_property(name: str, values: list[str], probes: Probes) -> np.ndarray | None:
    """The source's own probes, with a warning that the property "group" does not name them."""
    labels = probes.of_units(name)
    if labels is None:
        result = "all units are one population"
    else:
        result = f"units are grouped by its {probes.members} ({_listed(sorted(set(labels.tolist())))})"
    warnings.warn(
        f"{name}: the property group ({_listed(values)}) does not name its probes, so {result}: give group_by= a "
        "property that does",
        RecordingWarning,
        stacklevel=5,
    )
    return labels


def _listed(names: list[str]) -> str:
    return ", ".join(names[:6]) + (", …" if len(names) > 6 else "")

"""Session: the neurons and results in an NWB file, read in one step."""

from dataclasses import dataclass
from pathlib import Path

from ...errors import InputError
from ...population import Population
from .file import open_file
from .links import Pointer
from .neurons import fingerprint_now
from .output import stamp
from .population import read_nwbfile
from .reading import Stored, stored, table_names
from .tables import UNIT_COLUMNS


@dataclass(frozen=True, eq=False)
class Session:
    """The content of an NWB file when it was read.

    Attributes
    ----------
    path : Path
    population : Population
        Its neurons.
    tables : dict of str to Stored
        Its readable embeddings, by name.
    outdated : dict of str to str
        For each name of embeddings, why they cannot be read or do not belong to the file's present neurons; empty if
        they do.
    names : set of str
        Names of all objects in processing["nuclr"].
    published : bool
        Whether the units table has the columns that `write_nwb` adds on request.
    pointers : list of Pointer
        Pointers in the file to other files.
    stamp : tuple
        Result of `output.stamp`; a different one means that the file has changed since.
    """

    path: Path
    population: Population
    tables: dict[str, Stored]
    outdated: dict[str, str]
    names: set[str]
    published: bool
    pointers: list[Pointer]
    stamp: tuple


def read_session(path: Path, **reading) -> Session:
    """Read an NWB file's neurons, as `read_population` does, and its tables of embeddings.

    Raises
    ------
    InputError
        The file cannot be read, or a keyword does not fit it.
    """
    before = stamp(path) if path.exists() else ()
    with open_file(path) as opened:
        nwbfile = opened.nwbfile
        population = read_nwbfile(nwbfile, name=str(path), **reading)
        tables, outdated = {}, {}
        for name in table_names(nwbfile):
            try:
                tables[name] = stored(nwbfile, name)
            except InputError as error:
                outdated[name] = str(error)
                continue
            provenance = tables[name].embeddings.provenance
            outdated[name] = provenance.outdated(fingerprint_now(nwbfile, provenance, population))
        module = nwbfile.processing.get("nuclr")
        names = {*outdated, *(module.data_interfaces if module is not None else ())}
        columns = nwbfile.units.colnames if nwbfile.units is not None else ()
    return Session(
        path, population, tables, outdated, names, set(UNIT_COLUMNS) <= set(columns), opened.pointers, before
    )

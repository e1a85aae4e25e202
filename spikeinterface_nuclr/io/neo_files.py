"""Files of spike trains of the many formats that neo reads -> Population."""

import dataclasses
from pathlib import Path

from ..errors import InputError, reading
from ..population import Population
from .neo import read_neo

# Readers that run what a file contains (pickles, expressions), or a program that they fetch; and those of formats that
# are read elsewhere in this room, or made up.
_REFUSED = {"PickleIO", "ElphyIO", "Plexon2IO"}
_ELSEWHERE = {"NWBIO", "PhyIO", "ExampleIO", "KlustaKwikIO"}


def neo_readers(path: Path) -> list[type]:
    """neo's readers of spike trains for a file of this name; the refused ones too."""
    import neo.io
    from neo import SpikeTrain

    suffix = path.suffix.lower().lstrip(".")
    return [
        reader
        for reader in neo.io.io_by_extension.get(suffix, [])
        if suffix and reader.__name__ not in _ELSEWHERE and SpikeTrain in reader.supported_objects
    ]


def read_neo_file(path: Path, *, group_by, observed) -> Population:
    """The Population of the spike trains in a file, by the first of neo's readers that finds some.

    Raises
    ------
    InputError
        neo's reader of this format would execute what the file contains, needs a package, or finds no spike trains.
    """
    usable = [reader for reader in neo_readers(path) if reader.__name__ not in _REFUSED]
    if not usable:
        raise InputError(
            f"{path}: neo's reader of {path.suffix} files would run code that the file contains, or that it fetches: "
            "convert it with a program that you trust, such as to NWB or NIX"
        )
    problems = []
    for reader in usable:
        try:
            with reading(path, f"file for neo's {reader.__name__}", "export its spike trains, such as to NWB"):
                blocks = _read(reader, path)
            with_trains = [block for block in blocks if any(len(segment.spiketrains) for segment in block.segments)]
            if len(with_trains) > 1:
                raise InputError(
                    f"{path}: holds {len(with_trains)} blocks with spike trains: read it by neo, and give one of them"
                )
            if with_trains:
                return _named(with_trains[0], path, group_by=group_by, observed=observed)
            problems.append(f"{path}: {reader.__name__} finds no spike trains in it: export them, such as to NWB")
        except InputError as error:
            problems.append(str(error))
    raise InputError(problems[0])


def _read(reader: type, path: Path) -> list:
    """The blocks of a file; where the reader can, without its signals."""
    # NIX files would else be opened for writing.
    opened = reader(str(path), mode="ro") if reader.__name__ == "NixIO" else reader(str(path))
    if not opened.support_lazy:
        return opened.read()
    block = opened.read_block(lazy=True)
    for segment in block.segments:
        segment.spiketrains = [train.load() if hasattr(train, "load") else train for train in segment.spiketrains]
    return [block]


def _named(block, path: Path, *, group_by, observed) -> Population:
    """The Population of a block, with the file as its source."""
    try:
        population = read_neo(block, group_by=group_by, observed=observed)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    return dataclasses.replace(population, metadata={**population.metadata, "source": str(path)})

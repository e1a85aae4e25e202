"""Split the animals of a store into those to train on and those to monitor."""

from fnmatch import fnmatchcase

from ..decoding.labels import warn_of_similar
from ..embedding import check_signal
from ..errors import InputError
from ..population import Population
from ..traces import same_rate
from .config import PretrainConfig
from .store import Probe, Store
from .views import TOO_FEW_UNITS, Recording


def divide(
    store: Store, hold_out: list[str], exclude: list[str], config: PretrainConfig
) -> tuple[list[Recording], list[Probe]]:
    """Recordings to train on, and probes of held-out animals to monitor."""
    recordings, validation, unmatched = [], [], {*hold_out, *exclude}
    warn_of_similar(store.animals)
    for probe in store.probes:
        matching = {pattern for pattern in (*hold_out, *exclude) if fnmatchcase(probe.animal, pattern)}
        unmatched -= matching
        if matching & set(exclude):
            continue
        source = probe.outline.metadata["source"]
        check_signal(probe.signal, config.encoder, f"the encoder to train (on {source})")
        rate = 1 / config.encoder.bin_s
        if probe.signal == "traces" and not same_rate(probe.sampling_frequency, rate):
            raise InputError(
                f"{source}: the store holds it at {probe.sampling_frequency:.4g} frames per second, the encoder takes "
                f"{rate:.4g} (1 / bin_s): build the store with --frame-rate {rate:.6g}"
            )
        if matching:
            validation.append(probe)
        elif probe.n_units > TOO_FEW_UNITS:
            recording = Recording(probe, config.encoder.layout)
            if len(recording.starts):
                recordings.append(recording)
    if unmatched:
        names = ", ".join(store.animals[:5])
        raise InputError(f"{sorted(unmatched)[0]!r} matches no animal: nothing would be held out ({names}, …)")
    if not recordings:
        raise InputError(f"no recording is left to train on: each needs a window and more than {TOO_FEW_UNITS} units")
    if config.probe and validation and not any(config.probe in probe.outline.properties for probe in validation):
        raise InputError(f"probe {config.probe!r}: no held-out recording has labels of this name")
    return recordings, validation


def monitored_populations(validation: list[Probe], config: PretrainConfig) -> list[Population]:
    """The first `monitor_s` seconds of the observed time of each probe."""
    populations = []
    for probe in validation:
        observed = [probe.outline.observed_of(unit) for unit in range(probe.n_units)]
        begin = min((intervals[0, 0] for intervals in observed if len(intervals)), default=None)
        if begin is not None:
            populations.append(probe.population().within([[begin, begin + config.monitor_s]]))
    return populations

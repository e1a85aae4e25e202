"""Simulated populations with known cell types and regions, for the demo, tests, tutorials and benchmarks.

In `simulate_population`, the neurons of a region share a slow drive, and cell types differ in firing rate, in the
regularity of their spikes, in bursting and in how strongly they follow the drive. In `simulate_relations`, cell types
cannot be identified from single neurons, and in `simulate_sequences` not from correlations of spike counts either.
"""

import dataclasses
from dataclasses import dataclass

import numpy as np

from .errors import InputError
from .population import Population


@dataclass(frozen=True)
class CellType:
    """Firing statistics of a cell type.

    Parameters
    ----------
    rate : float
        Median rate in events per second; the rates of neurons vary around it by a factor of about 1.5.
    regularity : float
        Shape of the gamma distribution of inter-spike intervals: 1 is Poisson, larger is more regular.
    burst : float
        Mean number of additional spikes within a few milliseconds after each event.
    drive : float
        How strongly the rate follows the region's drive.
    """

    rate: float
    regularity: float
    burst: float
    drive: float


CELL_TYPES = {
    "regular": CellType(rate=4.0, regularity=2.0, burst=0.0, drive=0.5),
    "fast": CellType(rate=14.0, regularity=4.0, burst=0.0, drive=1.0),
    "bursting": CellType(rate=1.5, regularity=1.0, burst=2.5, drive=0.8),
}
# Region -> time constant of its drive in seconds, from the probe's tip upwards.
REGIONS = {"thalamus": 0.1, "hippocampus": 0.5, "cortex": 2.0}

# All neurons of `simulate_relations` have these statistics; they differ in the neurons with which they fire.
_IDENTICAL = CellType(rate=5.0, regularity=1.5, burst=0.0, drive=1.0)
_IDENTICAL_CONSTANT = 1.0  # s

# Triplets of `simulate_sequences`, in seconds: the delay between two positions, the standard deviation of a spike
# around its position, and the shortest and the mean time between two activations.
_DELAY, _JITTER = 0.04, 0.003
_ACTIVATION_SHORTEST, _ACTIVATION_MEAN = 0.15, 0.3
_BACKGROUND = 2.0  # spikes per second

_STEP = 0.01  # seconds between two values of a drive
_DRIVES = 12  # of `simulate_days`


def simulate_population(n_units: int = 60, duration: float = 300.0, seed: int = 0) -> Population:
    """Simulate neurons of three cell types in three regions along one probe.

    Parameters
    ----------
    n_units : int, default: 60
    duration : float, default: 300.0
        Seconds.
    seed : int, default: 0

    Returns
    -------
    Population
        With the properties ``cell_type``, ``brain_area`` and ``depth`` (µm from the tip).

    Examples
    --------
    >>> from spikeinterface_nuclr import simulate_population
    >>> population = simulate_population(10, 30.0)
    >>> population.n_units, sorted(population.properties)
    (10, ['brain_area', 'cell_type', 'depth'])
    """
    _check(n_units, duration, seed)
    rng = np.random.default_rng(seed)
    steps = int(np.ceil(duration / _STEP))
    drives = {region: _drive(steps, constant, rng) for region, constant in REGIONS.items()}
    depth = np.sort(rng.uniform(0, 3840, n_units))
    regions = np.array(list(REGIONS))[(depth / 3840 * len(REGIONS)).astype(int)]
    types = rng.choice(list(CELL_TYPES), n_units)
    trains = [
        _spikes(CELL_TYPES[cell], drives[region], duration, rng) for cell, region in zip(types, regions, strict=True)
    ]
    return Population(
        [f"u{i:03d}" for i in range(n_units)],
        trains,
        stop=duration,
        properties={"cell_type": types, "brain_area": regions, "depth": depth},
        metadata=_metadata("simulation", seed),
    )


def simulate_relations(n_units: int = 60, duration: float = 300.0, seed: int = 0) -> Population:
    """Simulate neurons whose types and regions cannot be identified from single neurons.

    All rates follow the exponential of a drive of the same kind (an Ornstein–Uhlenbeck process with unit variance and a
    time constant of 1 s), so that rates, intervals and autocorrelograms have the same distribution for all neurons.
    Half of the neurons, the choristers, follow a drive shared by their region; each soloist has a drive of its own. In
    the region "in phase" all choristers follow the drive itself; in "push-pull" a random half of them follows its
    negative, which has the same statistics because the process is symmetric.

    Parameters
    ----------
    n_units : int, default: 60
    duration : float, default: 300.0
        Seconds.
    seed : int, default: 0

    Returns
    -------
    Population
        With the properties ``cell_type`` ("chorister", "soloist") and ``brain_area`` ("in phase", "push-pull"; empty
        for soloists, which belong to no region).

    Examples
    --------
    >>> from spikeinterface_nuclr import simulate_relations
    >>> sorted(set(simulate_relations(10, 30.0).properties["cell_type"].tolist()))
    ['chorister', 'soloist']
    """
    _check(n_units, duration, seed)
    rng = np.random.default_rng(seed)
    steps = int(np.ceil(duration / _STEP))
    regions = rng.permutation(np.resize(["in phase", "push-pull"], n_units))
    types = rng.permutation(np.resize(["chorister", "soloist"], n_units))
    shared = {region: _drive(steps, _IDENTICAL_CONSTANT, rng) for region in np.unique(regions)}
    trains = []
    for region, cell in zip(regions, types, strict=True):
        drive = shared[region] if cell == "chorister" else _drive(steps, _IDENTICAL_CONSTANT, rng)
        sign = rng.choice([-1, 1]) if region == "push-pull" else 1
        trains.append(_spikes(_IDENTICAL, sign * drive, duration, rng))
    return Population(
        [f"u{i:03d}" for i in range(n_units)],
        trains,
        stop=duration,
        properties={"cell_type": types, "brain_area": np.where(types == "chorister", regions, "")},
        metadata=_metadata("relations", seed),
    )


def simulate_sequences(n_units: int = 60, duration: float = 300.0, seed: int = 0) -> Population:
    """Simulate neurons whose types cannot be identified from single neurons or correlations of spike counts.

    Neurons belong to triplets that are activated together, 3.3 times per second on average, and have independent
    background spikes. At each activation, each member is assigned one of three positions, 40 ms apart, and fires there
    or stays silent.

    - Firing order: members of "ordered" triplets fire in one cyclic order (ABC, BCA or CAB), those of "unordered"
      triplets in any of the six orders. Positions, unsigned intervals between the spikes of two members, and the summed
      activity of the others around a neuron's spikes have the same distribution in both. They differ in which of two
      members tends to fire first: the asymmetry of their cross-correlogram.
    - Higher-order correlations: at each activation an even number of members (none or two) fires in triplets of "even"
      parity, an odd number (one or three) in those of "odd" parity. Each member fires at half of the activations,
      independently of either other member, so that the difference lies in triplets and not in pairs.

    Parameters
    ----------
    n_units : int, default: 60
        If it is not a multiple of three, one or two neurons of the triplets are not recorded.
    duration : float, default: 300.0
        Seconds.
    seed : int, default: 0

    Returns
    -------
    Population
        With the properties ``cell_type`` ("ordered", "unordered"), ``parity`` ("even", "odd") and ``triplet`` (int).

    Examples
    --------
    >>> from spikeinterface_nuclr import simulate_sequences
    >>> sorted(set(simulate_sequences(30, 30.0).properties["cell_type"].tolist()))
    ['ordered', 'unordered']
    """
    _check(n_units, duration, seed)
    rng = np.random.default_rng(seed)
    n_triplets = -(-n_units // 3)
    types = rng.permutation(np.resize(["ordered", "unordered"], n_triplets))
    parities = rng.permutation(np.resize(["even", "odd"], n_triplets))
    trains = [
        train
        for cell, parity in zip(types, parities, strict=True)
        for train in _triplet(cell == "ordered", parity == "odd", duration, rng)
    ]
    recorded = rng.permutation(len(trains))[:n_units]
    triplet = recorded // 3
    return Population(
        [f"u{i:03d}" for i in range(n_units)],
        [trains[neuron] for neuron in recorded],
        start=0.0,
        stop=duration,
        properties={"cell_type": types[triplet], "parity": parities[triplet], "triplet": triplet},
        metadata=_metadata("sequences", seed),
    )


def simulate_days(
    days: int = 3,
    n_units: int = 60,
    duration: float = 300.0,
    *,
    drift: float = 0.1,
    turnover: float = 0.2,
    seed: int = 0,
) -> list[Population]:
    """Simulate sessions of one animal on several days, with known identities of the neurons.

    Neurons follow shared drives, each to its own degree. From day to day their rates and these degrees drift, some
    neurons are lost, and as many new ones appear, as with chronic probes.

    Parameters
    ----------
    days : int, default: 3
    n_units : int, default: 60
        Neurons on each day.
    duration : float, default: 300.0
        Seconds of each day.
    drift : float, default: 0.1
        Per day: the part of a neuron's drive that is replaced by new dependences, and the standard deviation of the
        change of the logarithm of its rate.
    turnover : float, default: 0.2
        Fraction of the neurons that are lost, and replaced, from one day to the next.
    seed : int, default: 0

    Returns
    -------
    list of Population
        One of each day, in random order of the units, with the properties ``neuron`` (the same on all days) and
        ``cell_type``.

    Examples
    --------
    >>> from spikeinterface_nuclr import simulate_days
    >>> first, second = simulate_days(2, n_units=10, duration=30.0)
    >>> len(set(first.properties["neuron"]) & set(second.properties["neuron"]))
    8
    """
    _check(n_units, duration, seed)
    if days != int(days) or days < 1 or not (0 <= drift <= 1 and 0 <= turnover <= 1):
        raise InputError(f"give a day or more, and drift and turnover from 0 to 1, not {days=}, {drift=}, {turnover=}")
    rng = np.random.default_rng(seed)
    steps = int(np.ceil(duration / _STEP))
    neurons, sessions, names = [], [], 0
    for _ in range(int(days)):
        lost = rng.permutation(len(neurons))[: round(turnover * n_units)]
        neurons = [_drifted(neuron, drift, rng) for k, neuron in enumerate(neurons) if k not in lost]
        while len(neurons) < n_units:
            neurons.append({**_new_neuron(rng), "name": f"n{names:04d}"})
            names += 1
        drives = np.stack([_drive(steps, constant, rng) for constant in np.resize(list(REGIONS.values()), _DRIVES)])
        order = rng.permutation(n_units)
        trains = [_spikes(n["cell"], n["loading"] @ drives, duration, rng, spread=0.0) for n in neurons]
        sessions.append([(neurons[k], trains[k]) for k in order])
    return [
        Population(
            [f"u{i:03d}" for i in range(n_units)],
            [train for _, train in session],
            stop=duration,
            properties={
                "neuron": np.array([neuron["name"] for neuron, _ in session]),
                "cell_type": np.array([neuron["cell_type"] for neuron, _ in session]),
            },
            metadata=_metadata("days", seed) | {"session": f"day {day + 1}", "source": f"day {day + 1} (seed {seed})"},
        )
        for day, session in enumerate(sessions)
    ]


def simulate_fluorescence(
    population: Population, frame_rate: float = 5.0, *, decay: float = 0.7, noise: float = 0.2, seed: int = 0
) -> np.ndarray:
    """Simulate the calcium fluorescence of a population from its spikes.

    Each spike adds a transient that rises within one frame and decays exponentially. Neurons differ in brightness and
    bleach slowly, and each frame has independent noise.

    Parameters
    ----------
    population : Population
        With spikes; frames start at 0 s.
    frame_rate : float, default: 5.0
        Frames per second.
    decay : float, default: 0.7
        Time constant of the indicator in seconds.
    noise : float, default: 0.2
        Standard deviation of the noise, in units of the transient of one spike.
    seed : int, default: 0

    Returns
    -------
    float32, shape (n_units, n_frames)
        Raw fluorescence, in arbitrary units.

    Examples
    --------
    >>> from spikeinterface_nuclr import read_population, simulate_fluorescence, simulate_population
    >>> fluorescence = simulate_fluorescence(simulate_population(10, 30.0), frame_rate=5.0)
    >>> population = read_population(fluorescence, sampling_frequency=5.0, traces="fluorescence")
    >>> population.traces.shape
    (10, 150)
    """
    from scipy.signal import lfilter

    rng = np.random.default_rng(seed)
    edges = np.arange(int(population.stop * frame_rate) + 1) / frame_rate
    counts = np.stack([np.histogram(times, edges)[0] for times in population.spike_times])
    calcium = lfilter([1.0], [1.0, -np.exp(-1 / (decay * frame_rate))], counts, axis=1)
    change = 0.2 * (calcium + noise * rng.standard_normal(counts.shape))
    brightness = rng.lognormal(6.0, 0.5, (population.n_units, 1))
    return (brightness * (1 + change) * np.exp(-edges[:-1] / 3600)).astype(np.float32)


def simulate_analyzer(n_units: int = 60, duration: float = 300.0, seed: int = 0):
    """Create an in-memory SortingAnalyzer with the spikes and properties of `simulate_population`.

    Its recording is noise on a linear probe, because this package does not use voltages.
    """
    return analyzer_of(simulate_population(n_units, duration, seed))


def analyzer_of(population: Population, sampling_frequency: float = 30_000.0):
    """Create an in-memory SortingAnalyzer from a population's spikes, with one channel per unit.

    Spike times are rounded to samples, counted from 0 s.
    """
    import probeinterface
    import spikeinterface.core as si
    from spikeinterface.generation import NoiseGeneratorRecording

    samples = {
        unit: np.round(times * sampling_frequency).astype(np.int64)
        for unit, times in zip(population.unit_ids.tolist(), population.spike_times, strict=True)
    }
    sorting = si.NumpySorting.from_unit_dict([samples], sampling_frequency)
    recording = NoiseGeneratorRecording(
        num_channels=population.n_units, sampling_frequency=sampling_frequency, durations=[population.stop], seed=0
    )
    probe = probeinterface.generate_linear_probe(num_elec=population.n_units, ypitch=20)
    probe.set_device_channel_indices(np.arange(population.n_units))
    recording.set_probe(probe)
    for name, values in population.properties.items():
        sorting.set_property(name, values)
    channels = np.arange(population.n_units)
    return si.create_sorting_analyzer(sorting, recording, sparse=False, main_channel_indices=channels)


def _metadata(name: str, seed: int) -> dict[str, str]:
    """Metadata of a simulated animal: one per seed."""
    return {"source": f"{name} (seed {seed})", "session": f"{name}-{seed}", "subject": f"{name}-{seed}"}


def _check(n_units: int, duration: float, seed: int) -> None:
    if n_units < 1 or not duration > 0 or seed < 0:
        raise InputError(f"a simulation needs units, time and a seed, not {n_units=}, {duration=}, {seed=}")


def _drive(steps: int, constant: float, rng: np.random.Generator) -> np.ndarray:
    """An Ornstein–Uhlenbeck process with unit variance and this time constant in seconds."""
    from scipy.signal import lfilter

    decay = np.exp(-_STEP / constant)
    noise = rng.standard_normal(steps) * np.sqrt(1 - decay**2)
    return lfilter([1.0], [1.0, -decay], noise, zi=[decay * rng.standard_normal()])[0]


def _spikes(
    cell: CellType, drive: np.ndarray, duration: float, rng: np.random.Generator, spread: float = 0.4
) -> np.ndarray:
    """Spike times of a gamma renewal process in time warped by the drive, with bursts.

    `spread` is the standard deviation of the logarithm of the rate.
    """
    base = cell.rate * np.exp(spread * rng.standard_normal())
    rate = base * np.exp(cell.drive * drive - cell.drive**2 / 2)
    warped = np.concatenate([[0.0], np.cumsum(rate * _STEP)])
    count = int(warped[-1] + 10 * np.sqrt(warped[-1]) + 10)
    intervals = rng.gamma(cell.regularity, 1 / cell.regularity, count)
    events = np.cumsum(intervals) - rng.uniform() * intervals[0]
    times = np.interp(events[events < warped[-1]], warped, np.arange(len(warped)) * _STEP)
    followers = rng.poisson(cell.burst, len(times)) if cell.burst else np.zeros(len(times), dtype=int)
    bursts = [t + np.cumsum(rng.uniform(0.003, 0.008, k)) for t, k in zip(times, followers, strict=True)]
    return _in_order(np.concatenate([times, *bursts]), duration)


def _new_neuron(rng: np.random.Generator) -> dict:
    """A neuron of `simulate_days`: its type, its rate, and how it depends on the drives (a vector of length 1)."""
    cell_type = str(rng.choice(list(CELL_TYPES)))
    cell = CELL_TYPES[cell_type]
    loading = rng.standard_normal(_DRIVES) * rng.exponential(size=_DRIVES)
    rate = cell.rate * np.exp(0.4 * rng.standard_normal())
    return {
        "cell_type": cell_type,
        "cell": dataclasses.replace(cell, rate=rate),
        "loading": loading / np.linalg.norm(loading),
    }


def _drifted(neuron: dict, drift: float, rng: np.random.Generator) -> dict:
    """The neuron of `simulate_days` on the next day."""
    loading = (1 - drift) * neuron["loading"] + drift * _new_neuron(rng)["loading"]
    rate = neuron["cell"].rate * np.exp(drift * rng.standard_normal())
    cell = dataclasses.replace(neuron["cell"], rate=rate)
    return {**neuron, "cell": cell, "loading": loading / np.linalg.norm(loading)}


def _triplet(ordered: bool, odd: bool, duration: float, rng: np.random.Generator) -> list[np.ndarray]:
    """Spike times of three neurons that are activated together."""
    count = int(duration / _ACTIVATION_SHORTEST) + 1
    onsets = np.cumsum(_ACTIVATION_SHORTEST + rng.exponential(_ACTIVATION_MEAN - _ACTIVATION_SHORTEST, count))
    onsets = onsets[onsets < duration] - _ACTIVATION_SHORTEST
    order = np.tile(np.arange(3), (len(onsets), 1))
    order = (order + rng.integers(3, size=(len(onsets), 1))) % 3 if ordered else rng.permuted(order, axis=1)
    fires = rng.integers(2, size=order.shape)
    fires[:, 2] = (fires[:, 0] + fires[:, 1] + odd) % 2
    times = onsets[:, None] + order * _DELAY + _JITTER * rng.standard_normal(order.shape)
    trains = []
    for activations, fired in zip(times.T, fires.T.astype(bool), strict=True):
        rate = _BACKGROUND * np.exp(0.4 * rng.standard_normal())
        background = rng.uniform(0, duration, rng.poisson(rate * duration))
        trains.append(_in_order(np.concatenate([activations[fired], background]), duration))
    return trains


def _in_order(times: np.ndarray, duration: float) -> np.ndarray:
    """Sorted spike times within the recording, without those inside the refractory period of 1.5 ms."""
    times = np.sort(times)
    times = times[(times >= 0) & (times < duration)]
    return times[np.diff(times, prepend=-1.0) > 0.0015]

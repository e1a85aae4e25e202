"""Small SortingAnalyzers of a population's spikes, in every shape that SpikeInterface gives them."""

import numpy as np
import probeinterface
import spikeinterface.core as si
from spikeinterface.generation import NoiseGeneratorRecording

FS = 20_000.0


def build_analyzer(population, *, format="memory", folder=None, segments=1, probes=1, ids="str", sparse=False):
    """An analyzer with one channel for each unit; `segments` equal parts; `probes` equal runs of units."""
    n = population.n_units
    names = population.unit_ids.astype(str).tolist() if ids == "str" else (np.arange(n) * 3 + 7).tolist()
    length = (population.stop - population.start) / segments
    trains = []
    for k in range(segments):
        begin = population.start + k * length
        part = [t[(t >= begin) & (t < begin + length)] - begin for t in population.spike_times]
        # floor: the last spike stays inside the segment
        trains.append({name: (t * FS).astype(np.int64) for name, t in zip(names, part, strict=True)})
    sorting = si.NumpySorting.from_unit_dict(trains, FS)
    recording = NoiseGeneratorRecording(
        num_channels=n, sampling_frequency=FS, durations=[length] * segments, seed=0, dtype="float32"
    )
    group = probeinterface.ProbeGroup()
    for k, size in enumerate(np.diff(np.linspace(0, n, probes + 1).astype(int))):
        probe = probeinterface.generate_linear_probe(num_elec=int(size), ypitch=20)
        probe.move([k * 1000, 0])
        group.add_probe(probe)
    group.set_global_device_channel_indices(np.arange(n))
    recording.set_probegroup(group)
    sparsity = None
    if sparse:
        on_probe = recording.get_property("group")
        sparsity = si.ChannelSparsity(on_probe[:, None] == on_probe[None], sorting.unit_ids, recording.channel_ids)
    return si.create_sorting_analyzer(
        sorting,
        recording,
        format=format,
        folder=folder,
        sparse=False,
        sparsity=sparsity,
        main_channel_indices=np.arange(n),
    )


def reload(analyzer, **options):
    return si.load_sorting_analyzer(analyzer.folder, **options)

"""A corpus of damaged inputs: every kind of file that is read, changed at random from a seed, read in one process.

    python tests/corpus.py FOLDER --count 300 --seed 0

prints one line of JSON for each case whose outcome is not a result or a refusal of one line, and a last line of counts.
Memory is limited to a gigabyte above what the process holds at the beginning, and time to half a minute a case.
"""

import argparse
import json
import os
import resource
import shutil
import signal
import struct
import sys
import traceback
import warnings
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TQDM_DISABLE", "1")

import h5py
import numpy as np
import torch

MEMORY, SECONDS = 1_000_000_000, 30


# --- the inputs, whole ------------------------------------------------------------------------------------------------


def make_originals(folder: Path) -> dict[str, Path]:
    """One small input of every kind, by its name."""
    import spikeinterface.core as si
    from analyzers import build_analyzer
    from nwb_files import add_probes, add_units, new_nwb, write_nwb_file
    from ophys_files import activity, add_series, ophys_file

    import spikeinterface_nuclr as n

    folder.mkdir(parents=True)
    population = n.simulate_population(6, 50.0, seed=0)
    found = {}
    nwbfile = add_probes(new_nwb(), "probe0")
    add_units(nwbfile, population.spike_times, cell_type=population.properties["cell_type"].tolist())
    found["units.nwb"] = write_nwb_file(folder / "units.nwb", nwbfile)
    embeddings = n.embed(n.read_population(found["units.nwb"]), progress=False)
    found["embedded.nwb"] = n.write_nwb(found["units.nwb"], embeddings, folder / "embedded.nwb")
    imaged = ophys_file()
    add_series(imaged, activity(12, 400))
    found["rois.nwb"] = write_nwb_file(folder / "rois.nwb", imaged)
    found["units.nwb.zarr"] = _to_zarr(found["units.nwb"], folder / "units.nwb.zarr")
    found["embeddings.npz"] = embeddings.save(folder / "embeddings.npz")
    found["session.h5"] = _session(folder / "session.h5", population)
    found["released.pt"] = folder / "released.pt"
    uids = np.array([f"session/{unit}" for unit in population.unit_ids])
    rows = torch.zeros(len(uids), 4)
    torch.save({"train_embs": rows, "train_uids": uids, "run_seed": 42}, found["released.pt"])
    found["traces.npy"] = folder / "traces.npy"
    np.save(found["traces.npy"], activity(8, 400))
    found["phy"] = _phy(folder / "phy", population)
    found["suite2p"] = _suite2p(folder / "suite2p")
    found |= _of_labs(folder, population)
    analyzer = build_analyzer(population, format="binary_folder", folder=folder / "analyzer")
    n.compute_nuclr_embedding(analyzer, progress_bar=False)
    found["analyzer"] = folder / "analyzer"
    (folder / "analyzer" / "spikeinterface_gui").mkdir()
    labels = [{"unit_id": unit, "labels": {"cell_type": ["fast"]}} for unit in analyzer.unit_ids.tolist()]
    kinds = {"cell_type": {"label_options": ["fast"], "exclusive": True}}
    curation = {"format_version": "2", "unit_ids": [], "label_definitions": kinds, "manual_labels": labels}
    (folder / "analyzer" / "spikeinterface_gui" / "curation_data.json").write_text(json.dumps(curation))
    analyzer.save_as(format="zarr", folder=folder / "analyzer.zarr")
    found["analyzer.zarr"] = folder / "analyzer.zarr"
    sorting = si.NumpySorting(analyzer.sorting.to_spike_vector(), analyzer.sampling_frequency, analyzer.unit_ids)
    sorting.set_property("quality", np.array(["good", "mua"] * 3))
    for name, format in (("sorting", "numpy_folder"), ("sorting_npz", "npz_folder"), ("sorting.zarr", "zarr")):
        sorting.save(folder=folder / name, format=format)
        found[name] = folder / name
    torch.manual_seed(0)
    config = n.EncoderConfig(dim=32, heads=2, head_dim=16)
    model = n.Checkpoint(config, n.Encoder(config).state_dict(), {"overlap": 0.5})
    found["model.safetensors"] = model.save(folder / "model.safetensors")
    found["decoder.safetensors"] = folder / "decoder.safetensors"
    n.Decoder.load("simulated-cell-type").save(found["decoder.safetensors"])
    for name in ("reference", "brainwidebench"):
        found[f"{name}.pt"] = shutil.copy(
            Path(__file__).parent / "data" / f"{name}_checkpoint.pt", folder / f"{name}.pt"
        )
    n.build_store(found["units.nwb"], folder / "store", progress=False)
    found["store"] = folder / "store"
    for name, text in (
        ("manifest.csv", "source,animal,weight\n../good/units.nwb,m1,2\n"),
        ("classes.csv", "label,class\nfast,a\nslow,b\n"),
        ("run.toml", "steps = 10\n[encoder]\ndim = 64\n"),
        ("card.json", '{"licence": "BSD", "data": {"a": [1, 2]}}'),
    ):
        found[name] = folder / name
        found[name].write_text(text)
    return {name: Path(path) for name, path in found.items()}


def _to_zarr(source: Path, target: Path) -> Path:
    import pynwb
    from hdmf_zarr import NWBZarrIO

    with pynwb.NWBHDF5IO(source, "r") as reading, NWBZarrIO(str(target), "w") as writing:
        writing.export(src_io=reading, write_args={"link_data": False})
    return target


def _session(path: Path, population) -> Path:
    """In the layout of temporaldata."""
    times = np.concatenate(population.spike_times)
    index = np.repeat(np.arange(population.n_units), population.num_spikes)
    order = np.argsort(times)
    with h5py.File(path, "w") as file:
        file["spikes/timestamps"], file["spikes/unit_index"] = times[order], index[order]
        file["spikes/domain/start"], file["spikes/domain/end"] = [0.0], [50.0]
        file["units/id"] = np.array(population.unit_ids).astype("S")
        file["units/probe_id"] = np.array(["a", "b"]).repeat(population.n_units // 2).astype("S")
        file.create_group("subject").attrs["id"] = "mouse"
    return path


def _phy(folder: Path, population) -> Path:
    folder.mkdir()
    times = np.concatenate(population.spike_times)
    clusters = np.repeat(np.arange(population.n_units), population.num_spikes)
    order = np.argsort(times)
    np.save(folder / "spike_times.npy", (times[order] * 30000).astype("u8"))
    np.save(folder / "spike_clusters.npy", clusters[order].astype("i4"))
    (folder / "params.py").write_text("dat_path = 'x.dat'\nsample_rate = 30000.\n")
    (folder / "cluster_group.tsv").write_text("cluster_id\tgroup\n0\tnoise\n1\tgood\n2\tmua\n")
    return folder


def _of_labs(folder: Path, population) -> dict[str, Path]:
    """ALF, CellExplorer, and formats that neo reads."""
    from neo.io import NeoMatlabIO, NixIO
    from test_lab_formats import block_of, write_alf, write_cellexplorer, write_nex, write_version_7_3

    trains = list(population.spike_times)
    write_alf(folder / "alf", trains)
    with NixIO(str(folder / "s.nix"), "ow") as file:
        file.write_block(block_of(trains))
    NeoMatlabIO(str(folder / "s.mat")).write_block(block_of(trains))
    return {
        "alf": folder / "alf", "s.nix": folder / "s.nix", "s.mat": folder / "s.mat",
        "cellexplorer": write_cellexplorer(folder / "cellexplorer", trains).parent,
        "new.spikes.cellinfo.mat": write_version_7_3(folder / "new.spikes.cellinfo.mat", trains),
        "s.nex": write_nex(folder / "s.nex", trains),
    }  # fmt: skip


def _suite2p(folder: Path) -> Path:
    folder.mkdir()
    draw = np.random.default_rng(0)
    np.save(folder / "F.npy", draw.uniform(500, 600, (8, 400)).astype("f4"))
    np.save(folder / "Fneu.npy", draw.uniform(50, 60, (8, 400)).astype("f4"))
    np.save(folder / "iscell.npy", np.ones((8, 2)))
    np.save(folder / "ops.npy", {"fs": 10.0, "neucoeff": 0.7, "badframes": np.zeros(400, bool), "nested": {"a": 1}})
    return folder


# --- what befalls them ------------------------------------------------------------------------------------------------


def damaged(path: Path, rng: np.random.Generator) -> str:
    """Change the file, or one of the folder's, in place; gives what was done."""
    target = path
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file() and "specifications" not in file.parts)
        target = files[rng.integers(len(files))]
    ways = [_flip, _flip, _truncate, _zero, _insert, _empty]
    if target.suffix == ".npy":
        ways += [_other_array] * 4
    if target.suffix == ".json" or target.name.startswith(".z"):
        ways += [_other_json] * 6
    if target.suffix == ".nwb":
        ways = [_flip, _truncate, _zero] + [_other_dataset] * 6
    if target.suffix in (".csv", ".tsv", ".py", ".toml"):
        ways += [_other_text] * 4
    if target.suffix == ".safetensors":
        ways += [_other_header] * 6
    if path.is_dir():
        ways.append(_gone)
    way = ways[rng.integers(len(ways))]
    where = target.relative_to(path) if path.is_dir() else target.name
    return f"{where}: {way.__name__[1:]} {way(target, rng) or ''}".strip()


def _flip(path, rng):
    content = bytearray(path.read_bytes())
    for place in rng.integers(max(len(content), 1), size=int(rng.integers(1, 20))) if content else ():
        content[place] ^= 1 << int(rng.integers(8))
    path.write_bytes(content)


def _truncate(path, rng):
    content = path.read_bytes()
    path.write_bytes(content[: int(rng.integers(len(content) + 1))])


def _zero(path, rng):
    content = bytearray(path.read_bytes())
    if content:
        begin = int(rng.integers(len(content)))
        end = min(begin + int(rng.integers(1, 5000)), len(content))
        content[begin:end] = bytes([int(rng.choice([0, 255]))]) * (end - begin)
    path.write_bytes(content)


def _insert(path, rng):
    content = path.read_bytes()
    place = int(rng.integers(len(content) + 1))
    path.write_bytes(content[:place] + rng.bytes(int(rng.integers(1, 64))) + content[place:])


def _empty(path, rng):
    path.write_bytes(b"")


def _gone(path, rng):
    path.unlink()


def _arrays(rng) -> list:
    """Arrays of every odd kind."""
    return [
        np.zeros(0), np.zeros((0, 3)), np.float64(1.0), np.arange(5), np.full((3, 4, 5), np.nan), np.full(7, np.inf),
        np.array(["a", "β"]), np.array([b"x", b"\xff"]), np.array([True, False]), np.array([1 + 2j]),
        np.array([2**63], dtype="u8"), np.full(10, -(2**62)), np.zeros(4, dtype=[("a", "f4"), ("b", "i2")]),
        np.sort(rng.uniform(0, 1e12, 50)), rng.uniform(-5, 5, 2000), np.array([1], dtype="M8[s]"), np.float16([1, 2]),
    ]  # fmt: skip


def _other_array(path, rng):
    kind = int(rng.integers(4))
    if kind == 0:  # a header that lies
        descr = str(rng.choice(["<f8", "<f4", ">i8", "|u1", "|O", "<U10", "|b1"]))
        shape = tuple(int(x) for x in rng.choice([0, 1, 7, 10**6, 10**12, 2**62], size=int(rng.integers(0, 3))))
        with open(path, "wb") as file:
            np.lib.format.write_array_header_1_0(file, {"descr": descr, "fortran_order": False, "shape": shape})
            file.write(rng.bytes(500))
        return f"{descr} {shape}"
    if kind == 1:
        np.save(path, np.array([{"a": 1}, None], dtype=object), allow_pickle=True)
        return "objects"
    arrays = _arrays(rng)
    array = arrays[int(rng.integers(len(arrays)))]
    np.save(path, array)
    return f"{array.dtype} {array.shape}"


def _odd_value(rng):
    odd = [None, True, 0, -1, 2**70, 1e308, float("nan"), "", "text\n\x1b[2J", [], [[]], {}, {"a": {}}, "1e30", [None]]
    return odd[int(rng.integers(len(odd)))]


def _other_json(path, rng):
    kind = int(rng.integers(4))
    try:
        content = json.loads(path.read_text())
    except (ValueError, UnicodeError):
        content = {}
    if kind == 0:
        path.write_text("[" * 200_000 + "]" * 200_000)
        return "deep"
    if kind == 1 or not isinstance(content, dict) or not content:
        path.write_text(json.dumps(_odd_value(rng)))
        return "another value"
    place, name = content, None
    while isinstance(place, dict) and place and (name is None or rng.random() < 0.7):
        parent, name = place, sorted(place)[int(rng.integers(len(place)))]
        place = parent[name]
    if kind == 2:
        del parent[name]
    else:
        parent[name] = _odd_value(rng)
    path.write_text(json.dumps(content))
    return f"{name}"


def _other_text(path, rng):
    lines = path.read_text(errors="replace").splitlines() or [""]
    line = int(rng.integers(len(lines)))
    odd = [
        "",
        ",,,,",
        "\t\t\t",
        '"',
        "a = [",
        "é\x00",
        "x" * 100_000,
        "steps = 1e30",
        "[encoder",
        "0\tnoise\tmore",
        "1e400",
    ]
    lines[line] = odd[int(rng.integers(len(odd)))]
    path.write_text("\n".join(lines), errors="replace")


def _other_header(path, rng):
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    kind = int(rng.integers(3))
    if kind == 0:
        path.write_bytes(struct.pack("<Q", int(rng.choice([0, 1, 10**6, 2**40, 2**63]))) + content[8:])
        return "length"
    header = json.loads(content[8 : 8 + length])
    if kind == 1:
        entry = header[sorted(header)[int(rng.integers(len(header)))]]
        name = sorted(entry)[int(rng.integers(len(entry)))]
        entry[name] = _odd_value(rng) if rng.random() < 0.5 else {"dtype": "BF16", "shape": [2**40]}.get(name, "{}")
    else:
        key = next(iter(header["__metadata__"]))
        facts = json.loads(header["__metadata__"][key])
        place, name = facts, None
        while isinstance(place, dict) and place and (name is None or rng.random() < 0.7):
            parent, name = place, sorted(place)[int(rng.integers(len(place)))]
            place = parent[name]
        parent[name] = _odd_value(rng)
        header["__metadata__"][key] = json.dumps(facts)
    written = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(written)) + written + content[8 + length :])
    return "tensor" if kind == 1 else "facts"


def _other_dataset(path, rng):
    with h5py.File(path, "r+") as file:
        places = []
        file.visititems(lambda name, thing: places.append(name) if not name.startswith("specifications") else None)
        place = places[int(rng.integers(len(places)))]
        thing = file[place]
        kind = int(rng.integers(4))
        if kind == 0:
            del file[place]
            return f"{place} deleted"
        if kind == 1 and len(thing.attrs):
            name = sorted(thing.attrs)[int(rng.integers(len(thing.attrs)))]
            if rng.random() < 0.5:
                del thing.attrs[name]
            else:
                thing.attrs[name] = ["", 7, b"\xff", np.arange(3), "NoSuchType"][int(rng.integers(5))]
            return f"{place}@{name}"
        attributes = dict(thing.attrs)
        del file[place]
        if kind == 2:
            made = file.create_dataset(place, shape=(10**12,), dtype="f8", chunks=(10**6,))
        else:
            arrays = [a for a in _arrays(rng) if a.dtype.kind not in "MUc"]
            made = file.create_dataset(place, data=arrays[int(rng.integers(len(arrays)))])
        for name, value in attributes.items():
            made.attrs[name] = value
        return f"{place} {made.dtype} {made.shape}"


# --- how they are read ------------------------------------------------------------------------------------------------


def reading(name: str, path: Path, good: dict[str, Path], scratch: Path, rng) -> list:
    """What is done with an input: commands (lists of text) and calls."""
    from spikeinterface_nuclr import read_brainwidebench_embeddings
    from spikeinterface_nuclr.cli.options import read_card
    from spikeinterface_nuclr.decoding.label_sources import read_classes
    from spikeinterface_nuclr.training.config import read_config
    from spikeinterface_nuclr.training.store import Store

    info, quiet = ["info", str(path)], ["-q", "--device", "cpu"]
    if name in ("card.json", "classes.csv", "run.toml"):
        return [lambda: {"card.json": read_card, "classes.csv": read_classes, "run.toml": read_config}[name](path)]
    if name == "manifest.csv":
        return [["store", "build", str(path), "-o", str(scratch / "made"), "-q"]]
    if name == "store":
        return [info, lambda: [probe.population() for probe in Store(path).probes]]
    if name == "decoder.safetensors":
        predicted = ["predict", str(good["embedded.nwb"]), "--decoder", str(path), "-o", str(scratch / "p.csv"), *quiet]
        return [info, predicted]
    if name == "released.pt":
        return [lambda: read_brainwidebench_embeddings(path)]
    if path.suffix in (".safetensors", ".pt"):
        return [info]
    if name == "embeddings.npz":
        return [info]
    more = ["--sampling-frequency", "10", "--traces", "dff"] if name == "traces.npy" else []
    embedded = ["embed", str(path), "-o", str(scratch / "e.npz"), "--overwrite", *quiet, *more]
    if path.suffix == ".nwb" and rng.random() < 0.5:
        embedded = ["embed", str(path), "--in-place", "--if-exists", "replace", *quiet]
    if name.startswith("analyzer") and rng.random() < 0.5:
        embedded = ["embed", str(path), *quiet]
    return [[*info, *more], embedded]


class Late(BaseException):
    """A case takes too long."""


def outcome(done) -> str:
    """What is wrong with how an input was received; empty for a result, or a refusal of one line."""
    from typer.testing import CliRunner

    from spikeinterface_nuclr.cli import app
    from spikeinterface_nuclr.errors import REFUSALS

    try:
        if callable(done):
            try:
                done()
            except REFUSALS as refusal:
                return "" if len(str(refusal).splitlines()) == 1 else f"several lines: {refusal}"
            return ""
        result = CliRunner().invoke(app, done)
    except Late:
        return f"hangs: more than {SECONDS} s"
    except Exception:
        return traceback.format_exc()
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        return "".join(traceback.format_exception(result.exception))
    lines = [line for line in result.stderr.splitlines() if not line.startswith("nuclr: ")]
    if result.exit_code == 2 and len(done) > 2 and "name a file to write" in result.stderr:
        return ""  # what is damaged so that it is no analyzer cannot be embedded without an output
    if result.exit_code and (lines or result.exit_code not in (3, 4, 5)):
        return f"exit code {result.exit_code}, said: {result.stderr}"
    return ""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", help="of the inputs, those whose name begins like this")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    good = make_originals(options.folder / "good")
    names = [name for name in good if name.startswith(options.only or "")]
    signal.signal(signal.SIGALRM, lambda *_: (_ for _ in ()).throw(Late()))
    held = (
        int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize() if sys.platform == "linux" else 0
    )
    if held:
        resource.setrlimit(resource.RLIMIT_AS, (held + MEMORY,) * 2)
    counts = {"cases": 0, "wrong": 0}
    for number in range(options.count):
        rng = np.random.default_rng([options.seed, number])
        name = names[number % len(names)]
        scratch = options.folder / "scratch"
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir()
        path = scratch / name
        (shutil.copytree if good[name].is_dir() else shutil.copyfile)(good[name], path)
        done = damaged(path, rng)
        case = f"{number} {name} {done}"
        print(f"# {case}", file=sys.stderr, flush=True)  # the last one, where a library brings the process down
        for way in reading(name, path, good, scratch, rng):
            before = path.read_bytes() if path.is_file() else None
            signal.alarm(SECONDS)
            wrong = outcome(way)
            signal.alarm(0)
            counts["cases"] += 1
            changed = before is not None and not path.is_file()
            if wrong or changed:
                counts["wrong"] += 1
                how = way if isinstance(way, list) else "read"
                print(json.dumps({"case": case, "how": how, "wrong": wrong or "the file is gone"}), flush=True)
    print(json.dumps(counts))


if __name__ == "__main__":
    main()

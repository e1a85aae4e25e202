"""Files of checkpoints, decoders and regressors: what they are known by, and what is refused, in one line."""

import dataclasses
import json
import struct

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import save_file
from safetensors.torch import save_file as save_torch
from test_decoder import cohort

from spikeinterface_nuclr import (
    Checkpoint,
    CheckpointError,
    Decoder,
    Encoder,
    EncoderConfig,
    InputError,
    Regressor,
    UnitEmbeddings,
    fit_decoder,
    fit_regressor,
    load_checkpoint,
)
from spikeinterface_nuclr.decoding import storage
from spikeinterface_nuclr.decoding.storage import bundled_decoders
from spikeinterface_nuclr.model import contents as contents_module
from spikeinterface_nuclr.model import loading
from spikeinterface_nuclr.model.encoder import network_of
from spikeinterface_nuclr.model.model_file import identity_of

LOADERS = {"nuclr": load_checkpoint, "nuclr_decoder": Decoder.load, "nuclr_regressor": Regressor.load}
ODD = [
    *(None, True, 3, -1, 0, 1e30, 10**40, float("nan"), float("-inf"), "", "text", "1.5"),
    *([], [[]], ["a", 1], ["a", "a"], {}, {"a": None}, {"": []}),
]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A checkpoint, a decoder and a regressor, by the key of their JSON."""
    folder = tmp_path_factory.mktemp("models")
    config = EncoderConfig(dim=8, heads=1, head_dim=8, temporal_blocks=1, spatiotemporal_blocks=1)
    torch.manual_seed(0)
    embeddings, labels = cohort(3)
    values = [one.embedding[:, 0] for one in embeddings]
    made = {
        "nuclr": Checkpoint(config, Encoder(config).state_dict(), {"note": "α"}),
        "nuclr_decoder": fit_decoder(embeddings, labels, target="type"),
        "nuclr_regressor": fit_regressor(embeddings, values, target="depth"),
    }
    return {key: model.save(folder / f"{key}.safetensors") for key, model in made.items()}


def content_of(path):
    with safe_open(path, framework="numpy") as file:
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        (key, text), *_ = file.metadata().items()
    return key, arrays, json.loads(text)


def rewritten(path, target, change):
    """The file with its arrays or its JSON changed."""
    key, arrays, content = content_of(path)
    change(arrays, content)
    save_file(arrays, target, {key: json.dumps(content)})
    return target


def refused(load, path) -> str:
    with pytest.raises(CheckpointError) as error:
        load(path)
    text = str(error.value)
    assert "\n" not in text
    assert str(path) in text
    assert len(text) < len(str(path)) + 400
    return text


# --- identity ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", LOADERS)
def test_neither_the_card_nor_the_name_of_the_file_is_part_of_it(files, tmp_path, kind):
    model = LOADERS[kind](files[kind])
    edited = dataclasses.replace(model, card={**model.card, "note": "a word corrected", "name": "another"})
    assert edited.sha256 == model.sha256
    path = edited.save(tmp_path / "renamed.safetensors")
    assert LOADERS[kind](path, sha256=model.sha256).card["note"] == "a word corrected"
    assert path.read_bytes() != files[kind].read_bytes()


def test_what_decides_the_output_is_part_of_it(files, checkpoint):
    weights = {**checkpoint.weights, "read_in.bias": checkpoint.weights["read_in.bias"] + 1e-6}
    assert dataclasses.replace(checkpoint, weights=weights).sha256 != checkpoint.sha256
    config = dataclasses.replace(checkpoint.config, input_scale="log1p")
    assert dataclasses.replace(checkpoint, config=config).sha256 != checkpoint.sha256
    decoder = Decoder.load(files["nuclr_decoder"])
    cooler = dataclasses.replace(decoder.classifier, temperatures=decoder.classifier.temperatures * 2)
    for change in ({"classifier": cooler}, {"target": "other"}, {"correct": ~decoder.correct}):
        assert dataclasses.replace(decoder, **change).sha256 != decoder.sha256


def test_a_field_that_a_later_version_adds_changes_nothing_where_it_has_its_default(checkpoint, tmp_path, monkeypatch):
    @dataclasses.dataclass(frozen=True)
    class Later(EncoderConfig):
        qk_norm: int = 0
        gain: float = 1.0

    path = checkpoint.save(tmp_path / "old.safetensors")
    monkeypatch.setattr(contents_module, "EncoderConfig", Later)
    found = load_checkpoint(path)
    assert isinstance(found.config, Later)
    assert found.sha256 == checkpoint.sha256
    again = dataclasses.replace(found, card={}).save(tmp_path / "again.safetensors")
    assert "qk_norm" not in content_of(again)[2]["config"]
    assert load_checkpoint(again).sha256 == checkpoint.sha256
    other = Checkpoint(Later(**{**checkpoint.config.to_dict(), "qk_norm": 1}), checkpoint.weights)
    assert other.sha256 != checkpoint.sha256
    assert load_checkpoint(other.save(tmp_path / "new.safetensors")).config.qk_norm == 1


def test_every_other_field_is_stated():
    assert EncoderConfig().to_dict() | {"members": 1} == dataclasses.asdict(EncoderConfig())
    assert EncoderConfig(members=2).to_dict() == dataclasses.asdict(EncoderConfig(members=2))


def test_whole_numbers_and_floats_are_one_config(checkpoint):
    one, other = (dataclasses.replace(checkpoint.config, bin_s=value, dropout=0) for value in (1, 1.0))
    assert one == other
    assert one.to_dict() == other.to_dict()
    assert json.dumps(one.to_dict()) == json.dumps(other.to_dict())


def test_identity_is_of_values_not_of_how_they_lie_in_memory():
    rows = np.arange(12, dtype=np.float32).reshape(3, 4)
    same = identity_of("x", {"a": rows, "b": np.float64(1)}, {"k": 1})
    assert identity_of("x", {"b": np.float64(1), "a": np.asfortranarray(rows)}, {"k": 1}) == same
    assert identity_of("x", {"a": rows.astype(">f4"), "b": np.float64(1)}, {"k": 1}) == same
    others = [
        ("y", {"a": rows, "b": np.float64(1)}, {"k": 1}),
        ("x", {"a": rows.reshape(4, 3), "b": np.float64(1)}, {"k": 1}),
        ("x", {"a": rows.view(np.int32), "b": np.float64(1)}, {"k": 1}),
        ("x", {"a": rows, "c": np.float64(1)}, {"k": 1}),
        ("x", {"a": rows, "b": np.float64(1)}, {"k": 2}),
    ]
    assert len({same, *(identity_of(*other) for other in others)}) == 6


def test_the_identity_of_this_version_stays():
    """Analyzers, NWB files and decoders out there name models by it."""
    config = EncoderConfig(dim=8, heads=1, head_dim=8, temporal_blocks=0, spatiotemporal_blocks=0, patch_size=2)
    weights = {"read_in.weight": torch.arange(16.0).view(8, 2) / 7, "read_in.bias": torch.arange(8.0)}
    assert Checkpoint(config, weights).sha256[:12] == "43ce3388e590"
    assert load_checkpoint().sha256[:12] == "0acae4307d05"
    assert load_checkpoint(signal="traces").sha256[:12] == "3a70e31d144d"


def test_bundled_decoders_read_bundled_models():
    models = {load_checkpoint(name).sha256 for name in loading.bundled_models()}
    for name in bundled_decoders():
        decoder = Decoder.load(name)
        assert set(decoder.checkpoints) <= models
        assert decoder.card["checkpoints"].keys() == set(decoder.checkpoints)


def test_a_bundled_model_saved_again_is_the_same_file(tmp_path):
    for load, folder in ((load_checkpoint, loading.BUNDLED), (Decoder.load, storage.BUNDLED)):
        for path in folder.glob("*.safetensors"):
            assert load(path).save(tmp_path / path.name).read_bytes() == path.read_bytes()


# --- models that have moved -------------------------------------------------------------------------------------------


def test_a_bundled_model_stands_in_for_a_path_that_leads_nowhere(tmp_path):
    sha256 = load_checkpoint().sha256
    found = load_checkpoint("/another/machine/nuclr-starter.safetensors", sha256=sha256)
    assert (found.sha256, found.name) == (sha256, "nuclr-starter")
    decoder = Decoder.load("simulated-cell-type")
    moved = Decoder.load(tmp_path / "d.safetensors", sha256=decoder.sha256)
    assert (moved.sha256, moved.name) == (decoder.sha256, "simulated-cell-type")
    for load in (load_checkpoint, Decoder.load):
        for expected in (None, "0" * 64):
            with pytest.raises(CheckpointError, match="no such"):
                load(tmp_path / "x.safetensors", sha256=expected)


def test_a_file_that_exists_is_never_replaced_by_a_bundled_one(checkpoint, tmp_path):
    path = checkpoint.save(tmp_path / "mine.safetensors")
    with pytest.raises(CheckpointError, match="not the expected"):
        load_checkpoint(path, sha256=load_checkpoint().sha256)


# --- damage -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", LOADERS)
def test_a_file_that_carries_another_identity_is_damaged(files, tmp_path, kind):
    def flip(arrays, _):
        first = next(name for name in arrays if not name.startswith("example/"))
        arrays[first].reshape(-1)[0] += 1

    def lose(_, content):
        del content["identity_sha256_v1"]

    for change in (flip, lose):
        path = rewritten(files[kind], tmp_path / "x.safetensors", change)
        assert "damaged" in refused(LOADERS[kind], path)


@pytest.mark.parametrize("kind", LOADERS)
def test_values_of_other_types_are_refused(files, tmp_path, kind):
    """Every value of the JSON, one after another, is something that it cannot be."""
    _, _, content = content_of(files[kind])
    names = [(name,) for name in content if name != "card"]
    names += [(name, key) for name in content for key in (content[name] if isinstance(content[name], dict) else ())]
    names = [name for name in names if name[0] != "card"] + [("card", "checkpoints"), ("card", "calibrated_on")]
    path = tmp_path / "x.safetensors"
    for name in names:
        for odd in ODD:

            def change(_, content, name=name, odd=odd):
                for step in name[:-1]:
                    content = content[step]
                content[name[-1]] = odd

            original = content[name[0]] if len(name) == 1 else content[name[0]].get(name[1])
            if odd == original:
                continue
            rewritten(files[kind], path, change)
            if name[0] != "card":
                refused(LOADERS[kind], path)
                continue
            try:
                LOADERS[kind](path)
            except CheckpointError as error:
                assert "\n" not in str(error)  # noqa: PT017 (a card may hold anything but a few things)


@pytest.mark.parametrize("kind", LOADERS)
@pytest.mark.parametrize(
    "text", ["[]", "null", "{", '"nuclr"', "[" * 100_000, '{"format": 1, "card": ' + "[" * 5000 + "]" * 5000 + "}",
             '{"format": 1, "card": {}}', '{"format": {}, "card": {}}', '{"a": 1' + "0" * 5000 + "}", "NaN"]
)  # fmt: skip
def test_json_of_other_shapes_is_refused(files, tmp_path, kind, text):
    key, arrays, _ = content_of(files[kind])
    save_file(arrays, tmp_path / "x.safetensors", {key: text})
    refused(LOADERS[kind], tmp_path / "x.safetensors")


@pytest.mark.parametrize("kind", LOADERS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.int64, torch.bool, torch.float8_e4m3fn])
def test_arrays_of_other_dtypes_are_refused(files, tmp_path, kind, dtype):
    key, arrays, content = content_of(files[kind])
    tensors = {name: torch.from_numpy(values) for name, values in arrays.items()}
    for name in tensors:
        save_torch({**tensors, name: tensors[name].to(dtype)}, tmp_path / "x.safetensors", {key: json.dumps(content)})
        refused(LOADERS[kind], tmp_path / "x.safetensors")
        break


@pytest.mark.parametrize("kind", LOADERS)
def test_arrays_of_other_shapes_and_numbers_are_refused(files, tmp_path, kind):
    _, arrays, _ = content_of(files[kind])
    changes = {
        "missing": lambda a, name: a.pop(name),
        "longer": lambda a, name: a.update({name: np.concatenate([a[name], a[name]])}),
        "empty": lambda a, name: a.update({name: a[name][:0]}),
        "deeper": lambda a, name: a.update({name: a[name][None]}),
        "nan": lambda a, name: (
            a.update({name: np.full_like(a[name], np.nan)}) if a[name].dtype.kind == "f" else a.clear()
        ),
    }
    for name in (name for name in arrays if not name.startswith("example/")):
        for change in changes.values():
            path = rewritten(files[kind], tmp_path / "x.safetensors", lambda a, _, c=change, n=name: c(a, n))
            refused(LOADERS[kind], path)


@pytest.mark.parametrize(
    "header",
    [
        struct.pack("<Q", 2**63),
        struct.pack("<Q", 2**62) + b"{" * 100,
        struct.pack("<Q", 20) + b'{"a":{"dtype":"F32",',
        # 4 TB in 30 bytes, and the same bytes twice.
        b'{"a":{"dtype":"F32","shape":[1000000000000],"data_offsets":[0,4000000000000]}}',
        b'{"a":{"dtype":"F32","shape":[18446744073709551615,9],"data_offsets":[0,4]}}',
        b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
        b'{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}',
        b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}}',
        b'{"__metadata__":{"nuclr":1},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
        b'{"__metadata__":[]}',
        b"[" * 4000,
    ],
)
def test_headers_that_lie_are_refused(tmp_path, header):
    path = tmp_path / "x.safetensors"
    path.write_bytes((header if header[:1] not in b"{[" else struct.pack("<Q", len(header)) + header) + bytes(30))
    for load in LOADERS.values():
        refused(load, path)


def test_a_later_format_asks_for_an_upgrade(files, tmp_path):
    for kind, load in LOADERS.items():
        path = rewritten(files[kind], tmp_path / "x.safetensors", lambda _, content: content.update(format=2))
        assert "upgrade the package" in refused(load, path)
    path = rewritten(files["nuclr_decoder"], tmp_path / "x.safetensors", lambda _, content: content.update(prior=[1]))
    assert "unknown entries ['prior']: a newer version may know them" in refused(Decoder.load, path)


def test_what_an_older_version_made_is_to_be_fitted_again(files, tmp_path):
    def older(arrays, content):
        for name in [name for name in arrays if name.endswith(("/clusters", "/errors"))]:
            del arrays[name]
        if "temperatures" in content:
            content["temperature"] = content.pop("temperatures")[0]

    for kind in ("nuclr_decoder", "nuclr_regressor"):
        text = refused(LOADERS[kind], rewritten(files[kind], tmp_path / "x.safetensors", older))
        assert "made by an older version of this package (it lacks 'held_out/" in text
        assert text.endswith("fit it again")


def test_each_is_told_from_the_others(files):
    says = {
        ("nuclr_regressor", "nuclr_decoder"): "reads numbers: use Regressor.load",
        ("nuclr_decoder", "nuclr_regressor"): "reads classes: use Decoder.load",
        ("nuclr", "nuclr_decoder"): "a safetensors file, but not a decoder",
        ("nuclr_decoder", "nuclr"): "a safetensors file, but not a NuCLR checkpoint",
    }
    for (file, loader), text in says.items():
        assert text in refused(LOADERS[loader], files[file])


# --- configs ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        {"dim": 1e30}, {"dim": 10**30}, {"dim": 10**5, "feed_forward_multiple": 1000}, {"temporal_blocks": 10**9},
        {"num_patches": 10**8}, {"patch_size": 2**62}, {"heads": 0}, {"head_dim": -4}, {"bin_s": float("inf")},
        {"bin_s": float("nan")}, {"bin_s": 1e-300}, {"dropout": "0.1"}, {"dim": True}, {"signal": ["spikes"]},
        {"dropout": 10**400}, {"rotary_fraction": None}, {"spatiotemporal_blocks": 1000, "dim": 100_000},
        {"members": 0}, {"members": 1000}, {"members": 90, "temporal_blocks": 500},
        {"members": 100, "num_patches": 10_000, "head_dim": 1000, "temporal_blocks": 0, "spatiotemporal_blocks": 0},
    ],
)  # fmt: skip
def test_absurd_configs_are_refused_before_anything_is_built(change):
    with pytest.raises(CheckpointError, match="encoder config: ") as error:
        EncoderConfig(**change)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "config",
    [
        EncoderConfig(),
        EncoderConfig(
            dim=32, heads=3, head_dim=10, temporal_blocks=3, spatiotemporal_blocks=1, feed_forward_multiple=2
        ),
        EncoderConfig(input_scale="log1p+acg", patch_size=7, temporal_blocks=0, spatiotemporal_blocks=0),
        EncoderConfig(input_scale="correlograms", patch_size=400, members=3),
    ],
)
def test_the_number_of_parameters_is_known_before_they_are_made(config):
    assert config.num_parameters == sum(weight.numel() for weight in network_of(config).state_dict().values())


@pytest.mark.parametrize("name", ["x" * 5000, "a\0b"])
def test_names_that_no_system_takes_are_no_files(name):
    for load in (load_checkpoint, Decoder.load):
        with pytest.raises(CheckpointError, match=r"no such (checkpoint|decoder)"):
            load(name)
    with pytest.raises(InputError, match="no such file"):
        UnitEmbeddings.load(name)

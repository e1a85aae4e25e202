"""The JSON Schemas in the documentation, against files of every kind and against what the readers refuse."""

import copy
import dataclasses
import json
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from safetensors import safe_open

from spikeinterface_nuclr import (
    EncoderConfig,
    InputError,
    Provenance,
    Store,
    UnitEmbeddings,
    build_store,
    embed,
    fit_decoder,
    fit_regressor,
    read_population,
    simulate_fluorescence,
    simulate_population,
)
from spikeinterface_nuclr.decoding.storage import BUNDLED as DECODERS
from spikeinterface_nuclr.model.loading import BUNDLED as MODELS

SCHEMAS = {path.stem: json.loads(path.read_text()) for path in Path(__file__).parents[1].glob("docs/schemas/*.json")}


@pytest.fixture(scope="module")
def decoders(population, checkpoint, tmp_path_factory):
    """The files of a decoder and of a regressor."""
    folder = tmp_path_factory.mktemp("decoders")
    embeddings = [
        embed(simulate_population(12, 60.0, seed=seed), checkpoint, precision="float32", progress=False)
        for seed in (1, 2)
    ]
    labels, depths = [["a", "b"] * 6] * 2, [np.arange(12.0)] * 2
    decoder = fit_decoder(embeddings, labels, target="cell_type").save(folder / "decoder.safetensors")
    return decoder, fit_regressor(embeddings, depths, target="depth").save(folder / "regressor.safetensors")


def metadata_of(path, key):
    with safe_open(path, "numpy") as file:
        return json.loads(file.metadata()[key])


def is_valid(content, name):
    return jsonschema.Draft202012Validator(SCHEMAS[name]).is_valid(content)


def imaged(population):
    fluorescence = simulate_fluorescence(population, frame_rate=4.0)
    return read_population(fluorescence, sampling_frequency=4.0, traces="fluorescence")


@pytest.mark.parametrize("name", ["checkpoint", "decoder", "regressor", "store", "session", "provenance"])
def test_schemas_are_schemas(name):
    jsonschema.Draft202012Validator.check_schema(SCHEMAS[name])


def test_models_and_decoders_are_described(checkpoint, decoders, tmp_path):
    for path in (*MODELS.glob("*.safetensors"), checkpoint.save(tmp_path / "a.safetensors")):
        jsonschema.validate(metadata_of(path, "nuclr"), SCHEMAS["checkpoint"])
    for path in (*DECODERS.glob("*.safetensors"), decoders[0]):
        jsonschema.validate(metadata_of(path, "nuclr_decoder"), SCHEMAS["decoder"])
    jsonschema.validate(metadata_of(decoders[1], "nuclr_regressor"), SCHEMAS["regressor"])
    content = metadata_of(decoders[0], "nuclr_decoder")
    assert not is_valid({**content, "classes": ["one"]}, "decoder")
    assert not is_valid({**content, "surprise": 1}, "decoder")


def test_the_config_of_a_checkpoint_is_the_documented_one():
    described = SCHEMAS["checkpoint"]["properties"]["config"]["properties"]
    assert list(described) == [field.name for field in dataclasses.fields(EncoderConfig)]


def test_stores_are_described(population, tmp_path):
    build_store([population, imaged(population)], tmp_path / "store", frame_rate=4.0, progress=False)
    jsonschema.validate(json.loads((tmp_path / "store" / "store.json").read_text()), SCHEMAS["store"])
    sessions = list((tmp_path / "store" / "sessions").glob("*/session.json"))
    assert len(sessions) == 2
    for path in sessions:
        content = json.loads(path.read_text())
        jsonschema.validate(content, SCHEMAS["session"])
        # What the schema refuses, the reader does.
        for change in ({"weight": 0}, {"animal": 3}, {"probes": [{}]}):
            assert not is_valid({**content, **change}, "session")
            path.write_text(json.dumps({**content, **change}))
            with pytest.raises(InputError, match="damaged"):
                Store(tmp_path / "store")
        path.write_text(json.dumps(content))


def test_every_entry_of_a_provenance_is_described(population, checkpoint, tmp_path):
    names = {field.name for field in dataclasses.fields(Provenance)} - {"other"}
    assert set(SCHEMAS["provenance"]["properties"]) == names
    for recording, model in ((population, checkpoint), (imaged(population), None)):
        path = embed(recording, model, progress=False).save(tmp_path / "x.npz", overwrite=True)
        provenance = UnitEmbeddings.load(path).provenance.to_dict()
        jsonschema.validate(provenance, SCHEMAS["provenance"])
        with np.load(path, allow_pickle=False) as file:
            jsonschema.validate(json.loads(str(file["provenance"])), SCHEMAS["provenance"])
    for name, values in (("windows", "three"), ("source", []), ("model", 3), ("skip_silence", 1.5)):
        changed = copy.deepcopy(provenance) | {name: values}
        assert not is_valid(changed, "provenance")
        with pytest.raises(InputError, match=f"provenance: {name}"):
            Provenance.from_dict(changed)

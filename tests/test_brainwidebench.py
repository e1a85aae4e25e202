"""BrainWideBench: sessions and released embeddings -> a decoder of ten regions -> the leaderboard's file."""

import numpy as np
import pytest
import torch
from test_brainsets import session

from spikeinterface_nuclr import (
    Checkpoint,
    Decoder,
    EmbeddingSettings,
    Encoder,
    EncoderConfig,
    InputError,
    LabelRule,
    read_cohort,
    read_population,
)
from spikeinterface_nuclr.decoding.regions import COSMOS

GOOD = "label == 1 and qc_neural == 'PASS'"


@pytest.fixture(scope="module")
def benchmark(tmp_path_factory):
    """Sessions of four pretraining and two evaluation animals, and embeddings of two seeds that show the region."""
    folder = tmp_path_factory.mktemp("benchmark")
    rng = np.random.default_rng(0)
    directions = rng.standard_normal((len(COSMOS), 32))
    names: dict[str, list[str]] = {"train": [], "eval": []}
    regions: dict[str, list[int]] = {"train": [], "eval": []}
    for k in range(6):
        part = "train" if k < 4 else "eval"
        units = 120
        cosmos = np.repeat(rng.permutation(10), units // 10)  # neighbours share a region
        session(
            folder / part / f"s{k}.h5", units=units, duration=30.0, rate=2.0, seed=k, subject=f"mouse-{k}",
            session_id=f"session-{k}", region=np.array(COSMOS)[cosmos],
        )  # fmt: skip
        names[part] += [f"session-{k}/unit-{u:05d}" for u in range(units)]
        regions[part] += cosmos.tolist()
    for seed in (42, 43):
        rows = {
            part: torch.tensor(directions[of] + 2.0 * rng.standard_normal((len(of), 32)), dtype=torch.float32)
            for part, of in regions.items()
        }
        rows["eval"][5] = torch.nan
        torch.save(
            {"train_embs": rows["train"], "eval_embs": rows["eval"], "train_uids": np.array(names["train"]),
             "eval_uids": np.array(names["eval"]), "run_seed": seed}, folder / f"nuclr_embeddings_{seed}.pt",
        )  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def decoder(nuclr, benchmark):
    path = benchmark / "cosmos.safetensors"
    released = [part for seed in (42, 43) for part in ("--embeddings", benchmark / f"nuclr_embeddings_{seed}.pt")]
    done = nuclr("decoder", "fit", benchmark / "train" / "*.h5", "--label", "region_cosmos", "--where", GOOD, *released,
                 "-o", path, "-q")  # fmt: skip
    assert "4 animals" in done.stdout
    return path


def test_embeddings_are_joined_to_units_by_id(benchmark):
    cohort = read_cohort(
        str(benchmark / "train" / "*.h5"), LabelRule("region_cosmos"), EmbeddingSettings(progress=False), where=GOOD,
        released=[benchmark / "nuclr_embeddings_42.pt"],
    )  # fmt: skip
    assert cohort.animals == [f"mouse-{k}" for k in range(4)]
    content = torch.load(benchmark / "nuclr_embeddings_42.pt", weights_only=False)
    uids = content["train_uids"].tolist()
    for name, embeddings in zip(cohort.names, cohort.embeddings, strict=True):
        population = read_population(name, where=GOOD)
        assert embeddings.unit_ids.tolist() == population.unit_ids.tolist()
        at = uids.index(f"{population.metadata['session']}/{population.unit_ids[7]}")
        np.testing.assert_array_equal(embeddings.embedding[7], content["train_embs"][at].numpy())


def test_the_scorer_reads_single_and_multi_unit_predictions(nuclr, benchmark, decoder, tmp_path):
    pytest.importorskip("ibl_bwb_eval")
    pytest.importorskip("torchmetrics")
    from ibl_bwb_eval.entity_ids import encode_entity_ids
    from ibl_bwb_eval.scoring.ts3 import score_dir
    from safetensors.torch import save_file

    assert len(Decoder.load(decoder).checkpoints) == 2
    released = [part for seed in (42, 43) for part in ("--embeddings", benchmark / f"nuclr_embeddings_{seed}.pt")]
    done = nuclr("brainwidebench", benchmark / "eval" / "*.h5", "--decoder", decoder, *released, "--seed", 42,
                 "--where", GOOD, "-o", tmp_path / "predictions", "-q")  # fmt: skip
    assert "units of 2 sessions" in done.stdout
    ids, targets = [], []
    for k in (4, 5):
        population = read_population(benchmark / "eval" / f"s{k}.h5", where=GOOD)
        for unit, region in zip(population.unit_ids, population.properties["region_cosmos"], strict=True):
            if f"session-{k}/{unit}" != "session-4/unit-00005":
                ids.append(f"session-{k}/{unit}")
                targets.append(COSMOS.index(region))
    ground = tmp_path / "ground" / "ts3-unit_cosmos"
    ground.mkdir(parents=True)
    save_file(
        {"entity_ids": encode_entity_ids(np.array(ids)), "targets": torch.tensor(targets)},
        ground / "ground_truth.safetensors", metadata={"label_names": ",".join(COSMOS)},
    )  # fmt: skip
    scored = score_dir(tmp_path / "predictions", tmp_path / "ground")
    single, multi = (scored[name, 42]["macro/f1-score"] for name in ("nuclr", "nuclr-multi-unit"))
    assert single > 0.5
    assert multi > single


def test_a_decoder_of_the_model_reads_recordings_that_are_embedded_by_it(nuclr, benchmark, tmp_path):
    config = EncoderConfig(dim=32, heads=2, head_dim=16)
    model = Checkpoint(config, Encoder(config).state_dict(), {"name": "m"}).save(tmp_path / "nuclr_42.safetensors")
    out = tmp_path / "d.safetensors"
    nuclr("decoder", "fit", benchmark / "train" / "*.h5", "--label", "region_cosmos", "--embeddings",
          benchmark / "nuclr_embeddings_42.pt", "--model", model, "-o", out, "-q")  # fmt: skip
    new = benchmark / "eval" / "s4.h5"
    nuclr("predict", new, "--decoder", out, "--model", model, "-o", tmp_path / "units.csv", "-q")
    assert len((tmp_path / "units.csv").read_text().splitlines()) == 121
    export = (
        "brainwidebench",
        new,
        "--decoder",
        out,
        "--embeddings",
        benchmark / "nuclr_embeddings_42.pt",
        "--seed",
        42,
    )
    assert "reads embeddings of" in nuclr(*export, "-o", tmp_path / "p", "-q", code=3).stderr
    nuclr(*export, "--model", model, "-o", tmp_path / "p", "--no-multi-unit", "-q")
    assert [path.name for path in (tmp_path / "p").iterdir()] == ["nuclr"]


def test_existing_predictions_stay(nuclr, benchmark, decoder, tmp_path):
    released = [part for seed in (42, 43) for part in ("--embeddings", benchmark / f"nuclr_embeddings_{seed}.pt")]
    export = ("brainwidebench", benchmark / "eval" / "*.h5", "--decoder", decoder, *released, "--seed", 42, "-q")
    standing = tmp_path / "p" / "nuclr-multi-unit" / "ts3-unit_cosmos" / "seed_42.safetensors"
    standing.parent.mkdir(parents=True)
    standing.write_text("mine")
    assert "exists already" in nuclr(*export, "-o", tmp_path / "p", code=3).stderr
    assert [path.name for path in (tmp_path / "p").iterdir()] == ["nuclr-multi-unit"]
    assert "name no file" in nuclr(*export, "-o", tmp_path / "q", "--name", "../evil", code=3).stderr


def test_an_evaluation_takes_them_too(nuclr, benchmark, tmp_path):
    done = nuclr("evaluate", benchmark / "train" / "*.h5", "--label", "region_cosmos", "--embeddings",
                 benchmark / "nuclr_embeddings_42.pt", "--depth", "depths", "--shuffles", 0, "-o", tmp_path / "r", "-q",
                 "-j", 1)  # fmt: skip
    assert "Better than every baseline" in done.stdout
    assert "embedding, pooled over neighbours" in (tmp_path / "r" / "report.md").read_text()


def test_what_does_not_fit_is_refused(nuclr, benchmark, decoder, tmp_path):
    released = benchmark / "nuclr_embeddings_42.pt"
    session(tmp_path / "other.h5", session_id="elsewhere")
    fit = ("decoder", "fit", tmp_path / "other.h5", "--label", "region_cosmos", "--embeddings", released)
    out = tmp_path / "d.safetensors"
    assert "hold no session 'elsewhere'" in nuclr(*fit, "-o", out, code=3).stderr
    both = ("--embeddings", benchmark / "nuclr_embeddings_43.pt", "--model", "nuclr-starter")
    assert "are of several models" in nuclr(*fit, *both, "-o", out, code=3).stderr
    wrong = nuclr("brainwidebench", tmp_path / "other.h5", "--decoder", decoder, "--embeddings", released, "--seed", 1,
                  "-o", tmp_path / "p", "-q", code=3)  # fmt: skip
    assert "hold no session 'elsewhere'" in wrong.stderr
    with pytest.raises(InputError, match="come without a control"):
        read_cohort(
            str(tmp_path / "other.h5"), LabelRule("region_cosmos"), EmbeddingSettings(progress=False), control=True,
            released=[released],
        )  # fmt: skip

import matplotlib.pyplot as plt
import numpy as np
import pytest
from analyzers import build_analyzer
from test_decoder import cohort

from spikeinterface_nuclr import (
    InputError,
    animal_scaling,
    embed,
    evaluate,
    fit_decoder,
    label_efficiency,
    plot_nuclr_embedding,
    plot_nuclr_evaluation,
    plot_nuclr_identity,
    simulate_population,
)
from spikeinterface_nuclr.cli.demo import neighbours_agree
from spikeinterface_nuclr.widgets.maps import embedding_map
from spikeinterface_nuclr.widgets.units import unit_depths


@pytest.fixture(autouse=True)
def figures_are_closed():
    yield
    plt.close("all")


def test_the_map_is_centred_ordered_by_variance_and_deterministic(rng):
    rows = rng.standard_normal((30, 8)) @ rng.standard_normal((8, 8))
    rows[3] = np.nan
    place = embedding_map(rows)
    known = np.isfinite(place).all(axis=1)
    assert np.flatnonzero(~known).tolist() == [3]
    assert np.abs(place[known].mean(axis=0)).max() < 1e-9
    assert place[known].std(axis=0)[0] > place[known].std(axis=0)[1]
    order = rng.permutation(30)
    assert np.allclose(embedding_map(rows[order]), place[order], equal_nan=True)
    for few in (0, 1, 2):
        place = embedding_map(np.concatenate([rows[:few], np.full((1, 8), np.nan)]))
        assert np.isfinite(place).all(axis=1).tolist() == [True] * few + [False]


def test_the_figure_has_a_panel_a_label(population, checkpoint, tmp_path):
    found = embed(population, checkpoint, progress=False)
    drawn = plot_nuclr_embedding(found, {k: population.properties[k] for k in ("cell_type", "depth")})
    titles = [axis.get_title() for axis in drawn.figure.axes if axis.get_title()]
    assert titles == ["cell_type", "depth"]
    legend = drawn.axes[0].get_legend()
    assert {t.get_text() for t in legend.get_texts()} == set(population.properties["cell_type"])
    drawn.figure.savefig(tmp_path / "map.png")
    assert (tmp_path / "map.png").stat().st_size > 1000


def test_an_analyzer_is_drawn_with_its_identities(checkpoint, tmp_path):
    model = checkpoint.save(tmp_path / "small.safetensors")
    simulated = [simulate_population(30, 60.0, seed=k) for k in range(4)]
    embeddings = [embed(one, model, progress=False) for one in simulated[:3]]
    labels = [one.properties["cell_type"] for one in simulated[:3]]
    decoder = fit_decoder(embeddings, labels, ["a", "b", "c"], target="cell_type").save(tmp_path / "d.safetensors")
    analyzer = build_analyzer(simulated[3])
    with pytest.raises(InputError, match="no nuclr_embedding"):
        plot_nuclr_embedding(analyzer)
    analyzer.compute("nuclr_embedding", model=model, progress_bar=False)
    with pytest.raises(InputError, match="no nuclr_identity"):
        plot_nuclr_identity(analyzer)
    assert [a.get_title() for a in plot_nuclr_embedding(analyzer).axes] == ["depth (µm)"]
    analyzer.compute("nuclr_identity", decoder=decoder, target_error=0.02, publish=True)
    titles = [axis.get_title() for axis in plot_nuclr_embedding(analyzer).axes]
    assert titles == ["predicted cell_type", "confidence", "depth (µm)"]
    assert plot_nuclr_embedding(analyzer, ["nuclr_cell_type"]).axes[0].get_title() == "nuclr_cell_type"
    with pytest.raises(InputError, match="no sorting property 'x'"):
        plot_nuclr_embedding(analyzer, ["x"])

    drawn = plot_nuclr_identity(analyzer, figsize=(5, 5))
    identities = analyzer.get_extension("nuclr_identity").get_identities()
    points = sum(len(one.get_offsets()) for one in drawn.axes[0].collections)
    assert points == 30  # every unit once
    assert len(drawn.axes[1].patches) == 30 * len(identities.classes)
    depth = drawn.axes[0].collections[0].get_offsets()[:, 1]
    np.testing.assert_array_equal(depth, unit_depths(analyzer)[identities.label == identities.classes[0]])
    with pytest.raises(InputError, match="depths has shape"):
        plot_nuclr_identity(identities)


def test_an_evaluation_is_drawn_with_its_curves(tmp_path):
    embeddings, labels = cohort(3, units=40)
    settings = {"progress": False}
    found = evaluate(embeddings, labels, shuffles=2, target="type", **settings)
    assert len(plot_nuclr_evaluation(found).figure.axes) == 4
    curve = label_efficiency(embeddings, labels, shares=(0.1, 1.0), repeats=1, **settings)
    drawn = plot_nuclr_evaluation(found, curve, animal_scaling(embeddings, labels, repeats=1, **settings))
    scores, confusion, *_ = drawn.axes.ravel()
    assert [t.get_text() for t in scores.get_yticklabels()] == ["embedding"]
    points = [line.get_xdata() for line in scores.lines if len(line.get_xdata()) == 3]
    np.testing.assert_allclose(points[0], found.animal_scores.query("score == 'macro-F1'")["value"])
    assert (confusion.get_xlabel(), confusion.get_ylabel()) == ("predicted", "true")
    assert [text.get_text() for text in drawn.figure.legends[0].get_texts()] == ["embedding"]
    assert not any(axis.get_legend() for axis in drawn.axes.ravel())
    np.testing.assert_allclose(
        confusion.images[0].get_array(), found.confusion() / found.confusion().sum(axis=1, keepdims=True)
    )
    assert drawn.axes[2, 0].get_xscale() == "log"
    drawn.figure.savefig(tmp_path / "evaluation.png")


def test_neighbours_agree_where_labels_are_separable(rng):
    labels = np.repeat(["a", "b"], 20)
    rows = rng.standard_normal((40, 4)) + 20 * (labels == "b")[:, None]
    share, chance = neighbours_agree(rows, labels)
    assert share == 1.0
    assert chance == pytest.approx(19 / 39)
    assert neighbours_agree(rows, rng.permutation(labels))[0] < 0.8


@pytest.mark.filterwarnings("ignore:Glyph")  # of characters that the font lacks
def test_names_of_any_kind_are_drawn_as_they_are(tmp_path):
    names = ["$\\frac{", "a\nb$", "\x1b[2J", "_x"]
    embeddings, labels = cohort(3, units=40)
    kinds = dict(zip(np.unique(np.concatenate(labels)), names, strict=False))
    labels = [np.array([kinds[label] for label in one]) for one in labels]
    found = evaluate(embeddings, labels, shuffles=0, target="$\\type{", others={"$\\other{": [
        one.embedding for one in embeddings]}, progress=False)  # fmt: skip
    drawn = plot_nuclr_evaluation(found)
    drawn.figure.savefig(tmp_path / "evaluation.png")
    assert drawn.axes[0, 0].get_title().startswith(r"\$\type{: ")
    map_of = plot_nuclr_embedding(embeddings[0], {"$\\title{": labels[0]})
    map_of.figure.savefig(tmp_path / "map.png")
    decoder = fit_decoder(embeddings, labels, ["a", "b", "c"], target="$\\type{")
    identities = decoder.predict(embeddings[0])
    drawn = plot_nuclr_identity(identities, depths=np.arange(len(identities.unit_ids)))
    drawn.figure.savefig(tmp_path / "identity.svg")
    assert drawn.axes[0].get_title() == r"predicted \$\type{"


def test_a_class_has_one_colour_also_where_another_is_absent(tmp_path, checkpoint):
    from spikeinterface_nuclr.widgets.drawing import class_colours

    analyzer = build_analyzer(simulate_population(12, 60.0, seed=500))
    analyzer.compute("nuclr_embedding", progress_bar=False)
    analyzer.compute("nuclr_identity", decoder="simulated-cell-type", target_error=1.0)
    extension = analyzer.get_extension("nuclr_identity")
    extension.data["best_label"][:] = "regular"  # the last of three classes, and the only one that is seen
    extension.data["reason"][:] = ""
    drawn = plot_nuclr_embedding(analyzer)
    colours = class_colours(extension.data["classes"])
    assert tuple(drawn.axes[0].collections[0].get_facecolor()[0][:3]) == colours["regular"]
    assert [t.get_text() for t in drawn.axes[0].get_legend().get_texts()] == ["regular"]


def test_one_property_is_given_by_its_name(population):
    analyzer = build_analyzer(population)
    analyzer.set_sorting_property("kind", np.resize(["a", "b"], len(analyzer.unit_ids)), save=False)
    analyzer.compute("nuclr_embedding", progress_bar=False)
    assert [axis.get_title() for axis in plot_nuclr_embedding(analyzer, "kind").axes] == ["kind"]


@pytest.mark.parametrize("count", [3, 10, 25, 60])
def test_legends_of_many_classes_leave_the_panels_their_size(rng, population, checkpoint, count):
    found = embed(simulate_population(80, 30.0), checkpoint, progress=False)
    names = np.resize([f"class {k}" for k in range(count)], 80)
    drawn = plot_nuclr_embedding(found, {"one": names, "two": names})
    drawn.figure.canvas.draw()
    for axis in drawn.axes:
        box = axis.get_window_extent()
        assert 0.6 < box.width / box.height < 1.9
        legend = axis.get_legend().get_window_extent()
        assert legend.x0 >= box.x1 - 1
        assert legend.y0 > -5
    assert drawn.axes[0].get_legend().get_window_extent().x1 < drawn.axes[1].get_window_extent().x0 + 5


def test_colours_of_classes_differ_and_none_is_grey():
    from spikeinterface_nuclr.widgets.drawing import class_colours, class_markers

    for count in (1, 10, 11, 30):
        names = [str(k) for k in range(count)]
        colours = np.array(list(class_colours(names).values()))
        assert len(np.unique(colours.round(3), axis=0)) == count
        assert (np.ptp(colours, axis=1) > 0.1).all()
    assert len(set(class_markers([str(k) for k in range(10)]).values())) == 10


def test_numbers_are_coloured_and_missing_ones_are_grey():
    from spikeinterface_nuclr.widgets.drawing import scale_colours

    colours, legend = scale_colours(np.array([0.0, 1.0, np.nan, 0.5]))
    assert (colours[0], colours[1], colours[2]) == ("#440154", "#fde725", "#bfbfbf")
    assert [name for name, _ in legend] == ["0", "0.333", "0.667", "1"]
    assert scale_colours(np.array([np.nan]))[0] == ["#bfbfbf"]
    assert len(scale_colours(np.array([2.0, 2.0]))[1]) == 1


def test_each_probe_has_its_panels():
    analyzer = build_analyzer(simulate_population(20, 60.0, seed=500), probes=2)
    analyzer.compute("nuclr_embedding", progress_bar=False)
    analyzer.compute("nuclr_identity", decoder="simulated-cell-type")
    drawn = plot_nuclr_identity(analyzer)
    titles = [axis.get_title() for axis in drawn.axes]
    assert titles == [
        "predicted cell_type, group 0",
        "probability of each class",
        "predicted cell_type, group 1",
        titles[1],
    ]
    for probe in (drawn.axes[0], drawn.axes[2]):
        assert sum(len(one.get_offsets()) for one in probe.collections) == 10
    with pytest.raises(InputError, match="groups has shape"):
        plot_nuclr_identity(analyzer, groups=["a"])


def test_a_map_by_umap(population, checkpoint):
    pytest.importorskip("umap")
    found = embed(population, checkpoint, progress=False)
    drawn = plot_nuclr_embedding(found, method="UMAP")
    assert drawn.axes[0].get_xlabel() == "UMAP 1"
    np.testing.assert_array_equal(embedding_map(found.embedding, "UMAP"), embedding_map(found.embedding, "UMAP"))
    with pytest.raises(InputError, match="a map is by PCA or UMAP"):
        plot_nuclr_embedding(found, method="t-SNE")


def test_neighbours_on_another_probe_are_not_pooled():
    """Probes whose contacts have the same coordinates are still two."""
    from spikeinterface_nuclr.extensions.base import groups_of

    analyzer = build_analyzer(simulate_population(8, 30.0), probes=2)
    assert groups_of(analyzer).tolist() == ["0"] * 4 + ["1"] * 4

import numpy as np
import pytest

from spikeinterface_nuclr import InputError, embed, plot_nuclr_embedding
from spikeinterface_nuclr.demo import neighbours_agree
from spikeinterface_nuclr.widgets import embedding_map


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
    with pytest.raises(InputError, match="at least three embedded units"):
        embedding_map(rows[:2])


def test_the_figure_has_a_panel_a_label(population, checkpoint, tmp_path):
    found = embed(population, checkpoint, progress=False)
    figure = plot_nuclr_embedding(found, {k: population.properties[k] for k in ("cell_type", "depth")})
    titles = [axis.get_title() for axis in figure.axes if axis.get_title()]
    assert titles == ["cell_type", "depth"]
    legend = figure.axes[0].get_legend()
    assert {t.get_text() for t in legend.get_texts()} == set(population.properties["cell_type"])
    figure.savefig(tmp_path / "map.png")
    assert (tmp_path / "map.png").stat().st_size > 1000


def test_neighbours_agree_where_labels_are_separable(rng):
    labels = np.repeat(["a", "b"], 20)
    rows = rng.standard_normal((40, 4)) + 20 * (labels == "b")[:, None]
    share, chance = neighbours_agree(rows, labels)
    assert share == 1.0
    assert chance == pytest.approx(19 / 39)
    assert neighbours_agree(rows, rng.permutation(labels))[0] < 0.8

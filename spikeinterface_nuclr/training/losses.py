"""Training objectives: align two views of the same neuron and separate different neurons.

A loss takes the embeddings of two views of a batch of samples. A sample is one population in two views; the neurons of
all samples are concatenated, and `units_1` and `units_2` identify them. Neurons with the same number in both views of a
sample are matches. Samples are independent. The objective is the sum of the terms that a loss returns.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from ..model.groups import Group, grouped, padded_by

FORMS = ("dcl_full", "dcl", "infonce")
TEMPERATURE_SCOPES = ("cross-view", "all")
_PADDING = 2.0  # places for neurons, relative to their number, in samples that are padded to be computed together


class ContrastiveLoss(nn.Module):
    """Sample-wise contrastive loss of NuCLR (Arora et al. 2025) and its variants.

    Parameters
    ----------
    dim : int
        Width of the embeddings.
    temperature : float, default: 0.2
    form : {"dcl_full", "dcl", "infonce"}
        Negatives of a matched neuron: "dcl_full", the other neurons of both views; "dcl", those of the other view;
        "infonce", those of the other view and the match itself.
    temperature_scope : {"cross-view", "all"}
        Which similarities are divided by the temperature: "cross-view", those between the views, as in the authors'
        code; or "all", also those within a view, as in BrainWideBench. With "all", the loss omits two constants, 1 /
        temperature and the logarithm of the number of negatives.

    Examples
    --------
    >>> import torch
    >>> from spikeinterface_nuclr import ContrastiveLoss
    >>> view_1, view_2 = torch.randn(2, 5, 16)  # two views of one population of five neurons
    >>> sizes, units = torch.tensor([5]), torch.arange(5)
    >>> sorted(ContrastiveLoss(16)(view_1, view_2, sizes, sizes, units, units))
    ['alignment', 'repulsion']
    """

    def __init__(
        self, dim: int, temperature: float = 0.2, form: str = "dcl_full", temperature_scope: str = "cross-view"
    ):
        super().__init__()
        if form not in FORMS:
            raise ValueError(f"form must be one of {FORMS}, not {form!r}")
        if temperature_scope not in TEMPERATURE_SCOPES:
            raise ValueError(f"temperature_scope must be one of {TEMPERATURE_SCOPES}, not {temperature_scope!r}")
        self.temperature, self.form, self.temperature_scope = temperature, form, temperature_scope
        self.projector = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, dim))

    def forward(self, x1, x2, sizes_1, sizes_2, units_1, units_2) -> dict[str, torch.Tensor]:
        """Mean of the samples' losses, weighted by their numbers of matches.

        Parameters
        ----------
        x1, x2 : Tensor, shapes (n1, dim) and (n2, dim)
            Embeddings of the two views.
        sizes_1, sizes_2 : int Tensor, shape (samples,)
            Number of neurons of each sample in each view.
        units_1, units_2 : int Tensor, shapes (n1,) and (n2,)
            Number that identifies each neuron, unique within a view of a sample.

        Returns
        -------
        dict of scalar Tensors
            "alignment" of the matches, and "repulsion" of their negatives.
        """
        p1, p2 = self.projector(x1).float(), self.projector(x2).float()
        # Autocast would compute the similarities in bfloat16, which is too coarse after division by the temperature.
        with torch.autocast(p1.device.type, enabled=False):
            p1, p2 = F.normalize(p1, dim=-1), F.normalize(p2, dim=-1)
            alignment, repulsion, matched = p1.new_zeros(()), p1.new_zeros(()), 0
            for view_1, view_2, rows_1, rows_2 in matched_groups(p1, p2, sizes_1, sizes_2, units_1, units_2):
                distance, similarity = self._terms(view_1, view_2, rows_1, rows_2)
                alignment, repulsion = alignment + distance.sum(), repulsion + similarity.sum()
                matched += len(rows_1)
        return {"alignment": alignment / max(matched, 1), "repulsion": repulsion / max(matched, 1)}

    def _terms(self, view_1, view_2, rows_1, rows_2):
        """Alignment of each match, and repulsion of its negatives, averaged over both views."""
        cross = view_1.embeddings @ view_2.embeddings.transpose(1, 2) / self.temperature
        forth, back = _rows(cross, rows_1), _rows(cross.transpose(1, 2), rows_2)
        alignment = -forth.gather(1, view_2.place(rows_2)).squeeze(1)
        if self.temperature_scope == "cross-view":
            alignment = alignment + 1 / self.temperature
        repulsion = self._repulsion(forth, view_1, view_2, rows_1, rows_2)
        return alignment, (repulsion + self._repulsion(back, view_2, view_1, rows_2, rows_1)) / 2

    def _repulsion(self, cross, view, other, rows, rows_of_other):
        """Log of the mean (for "all", of the sum) of exp(similarity) of each match to its negatives.

        `cross` (m, largest) are the similarities of the matches of a view, at `rows`, to all neurons of the other.
        """
        samples = rows // view.largest
        cross = cross.masked_fill(~other.group.is_neuron[samples], -torch.inf)
        number = other.group.size_of_each[samples]
        if self.form != "infonce":
            cross = cross.scatter(1, other.place(rows_of_other), -torch.inf)
        if self.form == "dcl_full":
            within = _rows(view.embeddings @ view.embeddings.transpose(1, 2), rows)
            if self.temperature_scope == "all":
                within = within / self.temperature
            within = within.masked_fill(~view.group.is_neuron[samples], -torch.inf)
            cross = torch.cat([cross, within.scatter(1, view.place(rows), -torch.inf)], dim=1)
            number = number + view.group.size_of_each[samples]
        repulsion = cross.logsumexp(dim=1)
        return repulsion - number.log() if self.temperature_scope == "cross-view" else repulsion


class VICRegLoss(nn.Module):
    """Variance-invariance-covariance regularisation (Bardes et al. 2022).

    Parameters
    ----------
    dim : int
        Width of the embeddings; the projector is four times as wide.
    factors : tuple of float
        Weights of the invariance, variance and covariance terms.
    cutoff, eps : float
        Target standard deviation of each projected dimension, and the constant added to its variance.

    Examples
    --------
    >>> import torch
    >>> from spikeinterface_nuclr import VICRegLoss
    >>> view_1, view_2 = torch.randn(2, 5, 16)  # two views of one population of five neurons
    >>> sizes, units = torch.tensor([5]), torch.arange(5)
    >>> sorted(VICRegLoss(16)(view_1, view_2, sizes, sizes, units, units))
    ['covariance', 'invariance', 'variance']
    """

    def __init__(self, dim: int, factors=(25.0, 25.0, 1.0), cutoff: float = 1.0, eps: float = 1e-4):
        super().__init__()
        self.factors, self.cutoff, self.eps = tuple(factors), cutoff, eps
        wide = 4 * dim
        self.projector = nn.Sequential(
            nn.Linear(dim, wide), nn.ReLU(), nn.Linear(wide, wide), nn.ReLU(), nn.Linear(wide, wide)
        )

    def forward(self, x1, x2, sizes_1, sizes_2, units_1, units_2) -> dict[str, torch.Tensor]:
        """Like `ContrastiveLoss.forward`: "invariance" of all matches, "variance" and "covariance" of all neurons."""
        p1, p2 = self.projector(x1).float(), self.projector(x2).float()
        groups = matched_groups(p1, p2, sizes_1, sizes_2, units_1, units_2)
        pairs = [(_rows(a.embeddings, i), _rows(b.embeddings, j)) for a, b, i, j in groups]
        z1, z2 = (torch.cat(z) for z in zip(*pairs, strict=True))
        invariance, variance, covariance = self.factors
        with torch.autocast(p1.device.type, enabled=False):
            return {
                "invariance": invariance * F.mse_loss(z1, z2),
                "variance": variance * (self._variance(p1) + self._variance(p2)),
                "covariance": covariance * (self._covariance(p1) + self._covariance(p2)),
            }

    def _variance(self, z):
        return F.relu(self.cutoff - (z.var(dim=0) + self.eps).sqrt()).mean()

    def _covariance(self, z):
        centred = z - z.mean(dim=0)
        covariance = centred.T @ centred / (len(z) - 1)
        return (covariance.square().sum() - covariance.diagonal().square().sum()) / z.shape[1]


@dataclass(frozen=True, eq=False)
class Side:
    """One view of a group of samples: padded embeddings, shape (samples, largest, dim)."""

    embeddings: torch.Tensor
    group: Group

    @property
    def largest(self) -> int:
        """Number of neurons of the largest sample."""
        return self.embeddings.shape[1]

    def place(self, rows: torch.Tensor) -> torch.Tensor:
        """Place of neurons within their sample, shape (m, 1), from those among all places of the group."""
        return (rows % self.largest)[:, None]


def matched_groups(
    x1, x2, sizes_1, sizes_2, units_1, units_2
) -> Iterator[tuple[Side, Side, torch.Tensor, torch.Tensor]]:
    """Iterate over groups of samples: both views, and the places of the matches in each, int64, shape (m,)."""
    sizes = np.array([[int(size) for size in sizes] for sizes in (sizes_1, sizes_2)])
    groups = list(zip(*grouped(sizes, x1.device, _PADDING), strict=True)) or [(), ()]
    embeddings = (padded_by(*view) for view in zip(groups, (x1, x2), strict=True))
    units = (padded_by(*view) for view in zip(groups, (units_1, units_2), strict=True))
    for group_1, group_2, a, b, names_a, names_b in zip(*groups, *embeddings, *units, strict=True):
        same = names_a[:, :, None] == names_b[:, None]
        same &= group_1.is_neuron[:, :, None] & group_2.is_neuron[:, None]
        sample, i, j = same.nonzero(as_tuple=True)
        yield Side(a, group_1), Side(b, group_2), sample * group_1.shape[1] + i, sample * group_2.shape[1] + j


def _rows(values: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """Values (samples, largest, …) at places among all, shape (m, …)."""
    return values.flatten(0, 1).index_select(0, rows)

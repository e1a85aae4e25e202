"""Groups: successive populations of a batch that are computed together, padded to the largest among them."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch


@dataclass(frozen=True, eq=False)
class Group:
    """Successive populations of a batch.

    Parameters
    ----------
    sizes : int64 array, shape (k,)
        Number of neurons of each population.
    device : torch.device
        Of the tensors to pad.

    Examples
    --------
    >>> import numpy as np
    >>> import torch
    >>> from spikeinterface_nuclr.model.groups import Group
    >>> group = Group(np.array([2, 1]), torch.device("cpu"))
    >>> group.padded(torch.tensor([5.0, 6.0, 7.0]))
    tensor([[5., 6.],
            [7., 0.]])
    >>> group.flat(group.padded(torch.tensor([5.0, 6.0, 7.0])))
    tensor([5., 6., 7.])
    """

    sizes: np.ndarray
    device: torch.device

    @cached_property
    def neurons(self) -> int:
        """Number of neurons of all populations."""
        return int(self.sizes.sum())

    @cached_property
    def shape(self) -> tuple[int, int]:
        """Number of populations, and number of neurons of the largest."""
        return len(self.sizes), int(self.sizes.max())

    @cached_property
    def is_even(self) -> bool:
        """Whether all populations are of one size, so that nothing is padded."""
        return self.neurons == np.prod(self.shape)

    @cached_property
    def size_of_each(self) -> torch.Tensor:
        """Number of neurons of each population, int64, shape (k,)."""
        return torch.from_numpy(self.sizes).to(self.device)

    @cached_property
    def is_neuron(self) -> torch.Tensor:
        """Which places of the padded populations hold a neuron, bool, shape (k, largest)."""
        return torch.arange(self.shape[1], device=self.device) < self.size_of_each[:, None]

    @cached_property
    def _places(self) -> torch.Tensor:
        """Place of each neuron among those of the padded populations, int64, shape (neurons,)."""
        populations = np.repeat(np.arange(len(self.sizes)), self.sizes)
        before = np.cumsum(self.sizes) - self.sizes
        places = np.arange(self.neurons) - before[populations] + populations * self.shape[1]
        return torch.from_numpy(places).to(self.device)

    def padded(self, values: torch.Tensor, dim: int = 0) -> torch.Tensor:
        """Values of all neurons, (…, neurons, …), as (…, k, largest, …), with zeros where there is no neuron."""
        if not self.is_even:
            shape = list(values.shape)
            shape[dim] = int(np.prod(self.shape))
            values = values.new_zeros(shape).index_copy(dim, self._places, values)
        return values.unflatten(dim, self.shape)

    def flat(self, values: torch.Tensor, dim: int = 0) -> torch.Tensor:
        """The inverse of `padded`."""
        values = values.flatten(dim, dim + 1)
        return values if self.is_even else values.index_select(dim, self._places)


def grouped(sizes, device: torch.device, padding: float) -> list[Group]:
    """Put successive populations into as few groups as the padding allows.

    Parameters
    ----------
    sizes : int array, shape (k,) or (views, k)
        Number of neurons of each population; with several views, those of each in turn. Populations without neurons
        in any view are left out.
    device : torch.device
    padding : float
        Largest ratio of places to neurons in a group, in each view; with 1, only populations of equal size share one.

    Returns
    -------
    list of Group, or for several views list of tuples of Groups
    """
    sizes = np.asarray(sizes, dtype=np.int64)
    views = np.atleast_2d(sizes)
    views = views[:, views.max(axis=0) > 0]
    groups, begin = [], 0
    while begin < views.shape[1]:
        rest = views[:, begin:]
        places = np.maximum.accumulate(rest, axis=1) * np.arange(1, rest.shape[1] + 1)
        end = begin + _first((places > padding * np.cumsum(rest, axis=1)).any(axis=0))
        members = tuple(Group(view[begin:end], device) for view in views)
        groups.append(members if sizes.ndim > 1 else members[0])
        begin = end
    return groups


def padded_by(groups: list[Group], values: torch.Tensor, dim: int = 0) -> list[torch.Tensor]:
    """Values of all neurons, (…, n, …), of each group and padded, (…, k, largest, …)."""
    parts = values.split([group.neurons for group in groups], dim=dim)
    return [group.padded(part, dim) for group, part in zip(groups, parts, strict=True)]


def _first(exceeded: np.ndarray) -> int:
    """Position of the first True, or the length if there is none."""
    return int(exceeded.argmax()) if exceeded.any() else len(exceeded)

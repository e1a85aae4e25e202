"""NuCLRView: what both toolkits share; what is particular to either is in `qt` and `panel`."""

import operator

import numpy as np
from spikeinterface_gui.view_base import ViewBase

from ..errors import REFUSALS
from ..extensions import compute_nuclr_embedding, computed_embedding, computed_estimate, computed_identity
from ..widgets.maps import METHODS
from .content import COLOURINGS, Content
from .panel import PanelPart
from .qt import QtPart

_HELP = """
## NuCLR view

A map of the embeddings of all units: units that lie together are active alike, each in the context of its population.

- **click**: show this unit; with **Ctrl** (in a browser **Shift**), show it too
- **select** (in a browser the **lasso**): show all units inside an outline
- **color_by**: predicted identity (grey: unknown), its probability, novelty, estimate, depth, or group (probe)
- **map**: principal components, or UMAP, if umap-learn is installed
- **compute**: embed the units, with the default model, if they have no embeddings

On the right is what is known of the unit that was shown last: probabilities of its classes, the units of this recording
that are most similar (a click shows one too), and the labelled neurons of the decoder that it resembles, with their
distance: 1 is how far a typical neuron of a new animal lies from its nearest ones.
"""


class NuCLRView(QtPart, PanelPart, ViewBase):
    """The view "nuclr" of spikeinterface-gui, for an analyzer with ``nuclr_embedding``."""

    id = "nuclr"
    _supported_backend = ["qt", "panel"]  # noqa: RUF012 (as the base class declares them)
    # The view says so itself, since spikeinterface-gui does not load extensions that it does not know.
    _depend_on = None
    _need_compute = True
    _settings = [  # noqa: RUF012
        {"name": "color_by", "type": "list", "limits": list(COLOURINGS), "value": "identity"},
        {"name": "map", "type": "list", "limits": list(METHODS), "value": "PCA"},
        {"name": "point_size", "type": "int", "value": 9, "limits": [3, 30]},
        {"name": "neighbours", "type": "int", "value": 5, "limits": [1, 10]},
    ]
    _gui_help_txt = _HELP

    def __init__(self, controller=None, parent=None, backend="qt"):
        self.content: Content | None = None
        self._read_from: list = []
        ViewBase.__init__(self, controller=controller, parent=parent, backend=backend)

    def read(self) -> str:
        """Read the analyzer's results, if they are new; return what is missing, empty if nothing is."""
        analyzer = self.controller.analyzer
        found = [
            analyzer,
            *(computed(analyzer) for computed in (computed_embedding, computed_identity, computed_estimate)),
        ]
        if self.content is not None and all(map(operator.is_, found, self._read_from)):
            return ""
        try:
            content = Content(analyzer)
            content.points(METHODS[0])
        except REFUSALS as error:
            self.content = None
            return str(error)
        self.content, self._read_from = content, found
        return ""

    def points(self) -> np.ndarray:
        """The map that is chosen, or the principal components if it cannot be drawn."""
        try:
            return self.content.points(self.settings["map"])
        except REFUSALS as error:
            self.warning(str(error))
            self.settings["map"] = METHODS[0]
            return self.content.points(METHODS[0])

    @property
    def shown_last(self):
        """The unit whose details are shown; None if no unit is visible."""
        return next(reversed(self.controller.get_visible_unit_ids()), None)

    def show_units(self, rows, *, add: bool) -> None:
        """Make units at these positions visible in all views: alone, or as well; or no longer, if all of them were."""
        units = [self.controller.unit_ids[row] for row in rows]
        visible = self.controller.get_visible_unit_ids()
        if add and units and all(unit in visible for unit in units):
            units = [unit for unit in visible if unit not in units]
        elif add:
            units = [*(unit for unit in visible if unit not in units), *units]
        if not units:
            return
        # Beyond its limit, spikeinterface-gui keeps the first ones.
        limit = self.controller.main_settings["max_visible_units"]
        self.controller.set_visible_unit_ids(units[-limit:])
        self.notify_unit_visibility_changed()
        self.refresh()

    def _compute(self):
        if computed_embedding(self.controller.analyzer) is None:
            compute_nuclr_embedding(self.controller.analyzer, save=self.controller.save_on_compute, progress_bar=False)

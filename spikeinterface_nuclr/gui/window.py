"""open_gui: spikeinterface-gui with our view, our columns, and labels to correct."""

from spikeinterface.core import SortingAnalyzer

from ..errors import InputError
from ..extensions import computed_embedding, computed_estimate, computed_identity
from ..extensions.curation import nuclr_curation
from ..io.curated_labels import curation_file, read_curation, write_curation

MODES = ("desktop", "web")
# The zone of spikeinterface-gui's layouts with most room.
_ZONE = "zone3"


def open_gui(analyzer, *, mode: str = "desktop", curation: bool = False, classes: list[str] | None = None, **keywords):
    """Open spikeinterface-gui with the view of embeddings and identities.

    The map comes first where the GUI shows traces. Predictions are columns of the list of units.

    Parameters
    ----------
    analyzer : SortingAnalyzer
        With the extensions that spikeinterface-gui needs (random_spikes, templates, unit_locations), and
        ``nuclr_embedding``, which the view else offers to compute.
    mode : {"desktop", "web"}
        A window (Qt), or a page in a web browser (Panel).
    curation : bool, default: False
        Label units, and mark merges, splits and removed units. With ``nuclr_identity`` the labels are those of
        `nuclr_curation`. "Save curation" writes them into the analyzer's folder (for Zarr, beside it), where
        `read_population` and ``nuclr decoder fit`` find them, and the next `open_gui` goes on from them.
    classes : list of str, optional
        Labels to choose from, besides the decoder's classes.
    **keywords
        Passed to `spikeinterface_gui.run_mainwindow`, such as ``layout``, ``recording`` or ``start_app``.

    Returns
    -------
    The window of spikeinterface-gui; after it was closed, unless ``start_app=False``.

    Raises
    ------
    InputError
        spikeinterface-gui is not installed, an extension that it needs is missing, or the saved curation is damaged.

    Examples
    --------
    >>> from spikeinterface import load_sorting_analyzer
    >>> from spikeinterface_nuclr import open_gui
    >>> open_gui(load_sorting_analyzer("analyzer"), curation=True)  # doctest: +SKIP
    """
    if mode not in MODES:
        raise InputError(f"mode must be {' or '.join(MODES)}, not {mode!r}")
    if not isinstance(analyzer, SortingAnalyzer):
        raise InputError(
            f"open_gui takes a SortingAnalyzer, not a {type(analyzer).__name__}: load_sorting_analyzer first"
        )
    if not len(analyzer.unit_ids):
        raise InputError("the analyzer has no units: there is nothing to show")
    if keywords.get("iterative_curation"):
        raise InputError("iterative_curation changes the units that labels are saved for: leave it out")
    if classes and not curation:
        raise InputError("classes are labels to choose from: give curation=True too")
    try:
        from spikeinterface_gui import run_mainwindow
        from spikeinterface_gui.layout_presets import get_layout_description
    except ImportError:
        raise InputError('the GUI is not installed: pip install "spikeinterface-nuclr[gui]"') from None
    missing = [name for name in ("random_spikes", "templates", "unit_locations") if not analyzer.has_extension(name)]
    if missing:
        raise InputError(f"the GUI needs {', '.join(missing)}: analyzer.compute([…]) computes them")
    layout = get_layout_description(keywords.pop("layout_preset", None), keywords.pop("layout", None))
    if not any("nuclr" in views for views in layout.values()):
        layout = {**layout, _ZONE: ["nuclr", *layout.get(_ZONE, [])]}
    columns = _columns(analyzer) | (keywords.pop("extra_unit_properties", None) or {})
    if curation:
        keywords = _curating(analyzer, classes) | keywords
        # Labels are columns already.
        kinds = (keywords.get("curation_dict") or {}).get("label_definitions", {})
        columns = {name: values for name, values in columns.items() if name not in kinds}
    return run_mainwindow(
        analyzer, mode=mode, curation=curation, layout=layout, extra_unit_properties=columns or None, **keywords
    )


def _columns(analyzer) -> dict:
    """Predictions as columns of the list of units, whether or not they are published as properties."""
    computed = [found(analyzer) for found in (computed_embedding, computed_identity, computed_estimate)]
    return {name: values for one in computed if one for name, values in one.published(one.data).items()}


def _curating(analyzer, classes: list[str] | None) -> dict:
    """Keywords of `run_mainwindow` with the labels to correct, and the place to save them."""
    path = curation_file(analyzer)
    saved = None if path is None else read_curation(path)
    if computed_identity(analyzer) is not None:
        try:
            saved = nuclr_curation(analyzer, classes=classes, curation=saved)
        except InputError as error:
            raise InputError(str(error) if saved is None else f"{path}: {error}: move the file away") from None
    elif classes:
        raise InputError("classes are for labels beside predictions: compute nuclr_identity, or leave them out")
    callback = {} if path is None else {"curation_callback": lambda curation: write_curation(path, curation)}
    return ({"curation_dict": saved} if saved else {}) | callback

"""Methods: what was done, as a paragraph to paste into a paper, with versions and citations."""

from importlib.metadata import version
from pathlib import Path

from ..predictions import Identities
from ..unit_embeddings import UnitEmbeddings

_NUCLR = (
    "Arora V, Lachi D, Knight IJ, Azabou M, Richards B, Hurwitz CL, Siegle J, Dyer EL (2025). Know Thyself by Knowing "
    "Others: Learning Neuron Identity from Population Context. Advances in Neural Information Processing Systems. "
    "arXiv:2512.01199"
)
_CALIBRATION = (
    "Guo C, Pleiss G, Sun Y, Weinberger KQ (2017). On Calibration of Modern Neural Networks. Proc. ICML, 1321-1330"
)
_SPIKEINTERFACE = "Buccino AP, et al. (2020). SpikeInterface, a unified framework for spike sorting. eLife 9, e61834"


def methods_of(embeddings: UnitEmbeddings, identities: Identities | None = None) -> tuple[str, list[str]]:
    """A paragraph on how embeddings and identities were computed, and the references that it cites."""
    made = embeddings.provenance
    window = f" in windows of {made.window_s:g} s" if made.window_s else ""
    signal = "traces" if made.signal == "traces" else "spike trains"
    versions = made.versions or {}
    own = versions.get("spikeinterface-nuclr") or version("spikeinterface-nuclr")
    text = (
        f"Each unit's {signal}, together with those of the units recorded with it, were embedded{window} by a NuCLR "
        f"encoder (Arora et al. 2025; model {Path(str(made.checkpoint or 'unknown')).name}, "
        f"sha256 {(made.checkpoint_sha256 or 'unknown')[:12]}) and averaged over windows, with spikeinterface-nuclr "
        f"{own}, which builds on SpikeInterface (Buccino et al. 2020)."
    )
    references = [_NUCLR, _SPIKEINTERFACE]
    if identities is None:
        return text, references
    facts = identities.provenance
    target = identities.target.replace("_", " ")
    error, calibration = facts.get("target_error"), facts.get("calibration")
    text += (
        f" The {target} of each unit was read from its embedding by a {facts.get('readout') or 'linear'} decoder "
        f"(sha256 {str(facts.get('decoder_sha256') or 'unknown')[:12]}), with thresholds that were chosen on left-out "
        f"{facts.get('calibrated_on') or 'units'}. "
    )
    if calibration and calibration != "none":
        text += "Its probabilities were calibrated on them by temperature scaling (Guo et al. 2017). "
        references.insert(1, _CALIBRATION)
    if error and error < 1:
        text += f"Labels were given as far as at most {percent(error)} of them are expected to be wrong; "
    text += f"{int(identities.abstained.sum())} of {len(identities.unit_ids)} units were left unknown."
    return text, references


def percent(fraction: float) -> str:
    """A fraction in per cent, with as many digits as it has."""
    return f"{100 * fraction:g} %"

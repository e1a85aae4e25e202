"""Methods: what was done, as a paragraph to paste into a paper, with versions and citations."""

import platform
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
    text = (
        f"Each unit's {signal}, together with those of the units recorded with it, were embedded{window} by a NuCLR "
        f"encoder (Arora et al. 2025; model {Path(str(made.checkpoint or 'unknown')).name}, "
        f"sha256 {(made.checkpoint_sha256 or 'unknown')[:12]}) and averaged over windows, with spikeinterface-nuclr "
        f"{version('spikeinterface-nuclr')} and SpikeInterface {version('spikeinterface')} (Buccino et al. 2020), "
        f"Python {platform.python_version()}."
    )
    references = [_NUCLR, _SPIKEINTERFACE]
    if identities is not None:
        facts = identities.provenance
        target = identities.target.replace("_", " ")
        readout = "linear" if facts.get("readout", "linear") == "linear" else str(facts["readout"])
        error = facts.get("target_error")
        text += (
            f" The {target} of each unit was read from its embedding by a {readout} decoder "
            f"(sha256 {str(facts.get('decoder_sha256') or 'unknown')[:12]}), with probabilities calibrated by "
            f"temperature scaling (Guo et al. 2017) on left-out {facts.get('calibrated_on') or 'units'}. "
            + (f"Labels were given as far as at most {error:.0%} of them are expected to be wrong; " if error else "")
            + f"{int(identities.abstained.sum())} of {len(identities.unit_ids)} units were left unknown."
        )
        references.insert(1, _CALIBRATION)
    return text, references

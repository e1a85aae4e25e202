"""convert_checkpoint: read public NuCLR checkpoints (``.pt`` files of two implementations) without running code."""

from collections.abc import Mapping
from pathlib import Path

import torch

from ..errors import CheckpointError, reason_of
from .checkpoint import Checkpoint
from .config import EncoderConfig
from .encoder import rotary_angles
from .pickled import Pickled, Tensor, plain

_SUBLAYERS = ("spatial", "spatial_feed_forward", "temporal", "temporal_feed_forward")


def convert_checkpoint(pt_path) -> Checkpoint:
    """Read a public ``.pt`` checkpoint: the authors' (nerdslab/nuclr) or BrainWideBench's (ibl-bwb).

    No code from the file is executed: only tensors and plain containers are read, the OmegaConf classes of the settings
    are replaced by inert stand-ins, and a file that names any other class is refused.

    Parameters
    ----------
    pt_path : path

    Returns
    -------
    Checkpoint

    Raises
    ------
    CheckpointError
        The file is damaged, would run code, or is not a NuCLR checkpoint.

    Examples
    --------
    >>> from spikeinterface_nuclr import convert_checkpoint
    >>> convert_checkpoint("authors.pt").save("authors.safetensors")  # doctest: +SKIP

    Other files are refused, and no code in them is executed:

    >>> import torch
    >>> torch.save({"weights": torch.zeros(3)}, "other.pt")
    >>> convert_checkpoint("other.pt")
    Traceback (most recent call last):
    spikeinterface_nuclr.errors.CheckpointError: other.pt: not a NuCLR checkpoint: ...
    """
    path = Path(pt_path)
    with Pickled(path) as file:
        content = file.content
        if not isinstance(content, Mapping) or not {"model_state_dict", "cfg"} <= content.keys():
            raise CheckpointError(f"{path}: not a NuCLR checkpoint: it lacks model_state_dict or cfg")
        # Only the loss shows which implementation wrote the file, and therefore the order of its sub-layers.
        brainwidebench = "ssl_loss_state_dict" in content
        if not brainwidebench and "loss_state_dict" not in content:
            raise CheckpointError(f"{path}: it lacks loss_state_dict and ssl_loss_state_dict, so its layout is unknown")
        try:
            settings = plain(content["cfg"])
            state = _tensors(file, content["model_state_dict"], path.stat().st_size)
            config = _config(settings, state)
            weights = _weights(state, config, spatial_first=brainwidebench)
            _check_rotation(state, config)
            run = {key: content.get(key) for key in ("train_step", "epoch", "run_id", "git_hash")}
            run = {key: plain(value) for key, value in run.items() if isinstance(value, str | int | float)}
        except Exception as error:  # any error may result from another layout
            raise CheckpointError(
                f"{path}: its layout is not that of a NuCLR checkpoint ({reason_of(error)})"
            ) from None
    card = {
        "converted_from": path.name,
        "implementation": "BrainWideBench (brainbench-org/ibl-bwb)" if brainwidebench else "reference (nerdslab/nuclr)",
        "settings": settings,
        **run,
        # The overlap of windows with which each implementation embeds.
        "overlap": 0.5 if brainwidebench else 0.0,
    }
    return Checkpoint(config, weights, card, name=str(path))


def _tensors(file: Pickled, state: Mapping, most: int) -> dict[str, torch.Tensor]:
    """The tensors of a state by name; ValueError if they take more than `most` bytes, the size of the file."""
    tensors, size = {}, 0
    for name, description in state.items():
        if not isinstance(name, str) or not isinstance(description, Tensor):
            raise ValueError("model_state_dict must hold tensors by name")
        tensors[name] = file.tensor(description)
        size += tensors[name].nbytes
        if size > most:
            raise ValueError("its tensors are larger than the file")
    return tensors


def _config(settings: dict, state: dict) -> EncoderConfig:
    model = settings["model"]
    if "read_in.weight" not in state:
        raise ValueError("it has no read_in: the spike-token encoder is not supported")
    fixed = {"rot_ratio": 0.5, "rotate_value": True, "attn_biases": True, "atn_dropout": 0.0}
    for key, value in fixed.items():
        if model.get(key, value) != value:
            raise ValueError(f"{key}={model[key]} is not supported")
    patch_s, bin_s = model["latent_step"], model["bin_size"]
    return EncoderConfig(
        bin_s=float(bin_s),
        patch_size=round(patch_s / bin_s),
        num_patches=round(model["ctx_duration"] / patch_s),
        dim=int(model["dim"]),
        heads=int(model["self_heads"]),
        head_dim=int(model["dim_head"]),
        temporal_blocks=int(model["t_layers"]),
        spatiotemporal_blocks=int(model["st_layers"]),
        dropout=float(model["lin_dropout"]),
    )


def _weights(state: dict, config: EncoderConfig, *, spatial_first: bool) -> dict[str, torch.Tensor]:
    """Weights by the names of `Encoder`. The implementations differ in the order of sub-layers in `st_blocks`."""
    weights = {}
    for name, value in state.items():
        kind, *rest = name.split(".")
        if kind == "rotary_emb":
            continue
        if kind == "t_blocks":
            block, layer, *rest = rest
            kind, rest = "temporal_blocks", [block, ("attention", "feed_forward")[int(layer)], *rest]
        elif kind == "st_blocks":
            block, layer, *rest = rest
            layer = int(layer) if spatial_first else (int(layer) + 2) % 4
            kind, rest = "spatiotemporal_blocks", [block, _SUBLAYERS[layer], *rest]
        if kind.endswith("blocks") and rest[1] in ("attention", "temporal"):
            value = _halves(value, rest[2:], config)
        weights[".".join([kind, *rest])] = value.detach().to(torch.float32).contiguous()
    return weights


def _halves(value: torch.Tensor, name: list[str], config: EncoderConfig) -> torch.Tensor:
    """Reorder a rotating layer from interleaved pairs (2i, 2i + 1) to halves (i, i + rotary_pairs)."""
    rotating = 2 * config.rotary_pairs
    order = [*range(0, rotating, 2), *range(1, rotating, 2), *range(rotating, config.head_dim)]
    heads = (config.heads, config.head_dim)
    if name[0] == "to_qkv":
        return value.unflatten(0, (3, *heads))[:, :, order].flatten(0, 2)
    if name == ["to_out", "weight"]:
        return value.unflatten(1, heads)[:, :, order].flatten(1)
    return value


def _check_rotation(state: dict, config: EncoderConfig) -> None:
    stored = state.get("rotary_emb.omega")
    if stored is not None:
        expected = torch.zeros(config.head_dim // 2)
        expected[: config.rotary_pairs] = rotary_angles(config)[1].float()
        if stored.shape != expected.shape or not torch.allclose(stored.float(), expected, rtol=1e-4):
            raise ValueError("its rotary frequencies are not those of its settings")

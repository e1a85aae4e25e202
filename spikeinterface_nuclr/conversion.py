"""Public NuCLR checkpoints (pickled ``.pt`` files of two implementations) -> Checkpoint. Runs nothing of the file."""

import collections
import pickle
from collections.abc import Mapping
from pathlib import Path

import torch

from .checkpoint import Checkpoint
from .encoder import EncoderConfig, rotary_angles
from .errors import CheckpointError, reason_of

_SUBLAYERS = ("spatial", "spatial_feed_forward", "temporal", "temporal_feed_forward")


def convert_checkpoint(pt_path) -> Checkpoint:
    """Read a public ``.pt`` checkpoint: the authors' (nerdslab/nuclr) or BrainWideBench's (ibl-bwb).

    torch's own restricted unpickler builds tensors and plain containers only; OmegaConf's classes, in which both keep
    their settings, are replaced by inert ones. Whatever else the file asks for is refused, not run.

    Parameters
    ----------
    pt_path : path

    Returns
    -------
    Checkpoint

    Raises
    ------
    CheckpointError
        The file is damaged, asks to run code, or is no NuCLR checkpoint.
    """
    path = Path(pt_path)
    content = _load_inert(path)
    if not isinstance(content, Mapping) or "model_state_dict" not in content or "cfg" not in content:
        raise CheckpointError(f"{path}: not a NuCLR checkpoint: it lacks model_state_dict or cfg")
    settings = _plain(content["cfg"])
    state = content["model_state_dict"]
    # Only by its loss does a file say which implementation wrote it, and so how its sub-layers are ordered.
    brainwidebench = "ssl_loss_state_dict" in content
    if not brainwidebench and "loss_state_dict" not in content:
        raise CheckpointError(f"{path}: it lacks loss_state_dict and ssl_loss_state_dict, so its layout is unknown")
    try:
        config = _config(settings, state)
        weights = _weights(state, config, spatial_first=brainwidebench)
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RuntimeError) as error:
        raise CheckpointError(f"{path}: its layout is not that of a NuCLR checkpoint ({error})") from None
    _check_rotation(path, state, config)
    card = {
        "converted_from": path.name,
        "implementation": "BrainWideBench (brainbench-org/ibl-bwb)" if brainwidebench else "reference (nerdslab/nuclr)",
        "settings": settings,
        **{key: content[key] for key in ("train_step", "epoch", "run_id", "git_hash") if _is_plain(content.get(key))},
        # What each implementation does when it embeds.
        "overlap": 0.5 if brainwidebench else 0.0,
    }
    return Checkpoint(config, weights, card, name=str(path))


class _Inert:
    """Stands in for a class of the file: takes its state, does nothing."""

    def __init__(self, *args, **kwargs):
        pass

    def __setstate__(self, state):
        self.state = state


def _stand_in(module: str, name: str, base: type) -> type:
    return type(name, (base,), {"__module__": module})


# By these names the pickles ask for their classes. `__builtin__` is what old pickle protocols call `builtins`.
_STAND_INS = [
    *(
        _stand_in(module, name, _Inert)
        for module, name in (
            ("omegaconf.dictconfig", "DictConfig"),
            ("omegaconf.listconfig", "ListConfig"),
            ("omegaconf.nodes", "AnyNode"),
            ("omegaconf.base", "ContainerMetadata"),
            ("omegaconf.base", "Metadata"),
            ("typing", "Any"),
        )
    ),
    *(_stand_in("__builtin__", name, base) for name, base in (("dict", dict), ("list", list), ("long", int))),
    *(collections.defaultdict, dict, list, int),
]


def _load_inert(path: Path):
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file")
    # torch keeps one list for the whole process: what is on it is put aside for the moment of reading.
    before = torch.serialization.get_safe_globals()
    torch.serialization.clear_safe_globals()
    torch.serialization.add_safe_globals(_STAND_INS)
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        asked = str(error).replace("\n", " ")
        _, found, rest = asked.partition("GLOBAL ")
        reason = f"it asks for {rest.split()[0]}, which could run code" if found else "it is damaged or no checkpoint"
        raise CheckpointError(f"{path}: refused: {reason}; only fetch it again from a source you trust") from None
    except (RuntimeError, OSError, EOFError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise CheckpointError(f"{path}: not a readable .pt file ({reason_of(error)}): fetch it again") from None
    finally:
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(before)


def _is_plain(value) -> bool:
    return isinstance(value, str | int | float)


def _plain(node):
    """The plain values inside OmegaConf nodes: their state keeps children in `_content`, leaves in `_val`."""
    if isinstance(node, _Inert):
        state = getattr(node, "state", {})
        return _plain(state["_content"] if "_content" in state else state.get("_val"))
    if isinstance(node, Mapping):
        return {str(key): _plain(value) for key, value in node.items()}
    if isinstance(node, list | tuple):
        return [_plain(value) for value in node]
    return node if _is_plain(node) or node is None else str(node)


def _config(settings: dict, state: Mapping) -> EncoderConfig:
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


def _weights(state: Mapping, config: EncoderConfig, *, spatial_first: bool) -> dict[str, torch.Tensor]:
    """Weights under our names. In `st_blocks` the two implementations order their sub-layers differently."""
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
    turning = 2 * config.rotary_pairs
    order = [*range(0, turning, 2), *range(1, turning, 2), *range(turning, config.head_dim)]
    heads = (config.heads, config.head_dim)
    if name[0] == "to_qkv":
        return value.unflatten(0, (3, *heads))[:, :, order].flatten(0, 2)
    if name == ["to_out", "weight"]:
        return value.unflatten(1, heads)[:, :, order].flatten(1)
    return value


def _check_rotation(path: Path, state: Mapping, config: EncoderConfig) -> None:
    stored = state.get("rotary_emb.omega")
    if stored is not None:
        expected = torch.zeros(config.head_dim // 2)
        expected[: config.rotary_pairs] = rotary_angles(config)[1].float()
        if stored.shape != expected.shape or not torch.allclose(stored, expected, rtol=1e-4):
            raise CheckpointError(f"{path}: its rotary frequencies are not those of its settings")

"""Run: the files of a training run: its checkpoints, its log, and the state from which it can be resumed exactly."""

import csv
import json
import math
import os
import shutil
from itertools import pairwise
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ..errors import InputError, reading, reason_of
from ..files import check_format, check_writable, written_whole
from ..model.checkpoint import Checkpoint


class Run:
    """Progress of a run: its step, the elapsed seconds, and the rows of its log.

    Parameters
    ----------
    output : path
        The checkpoint to write, ``.safetensors``; the other files are written beside it.
    resume : bool
        Continue an interrupted run from its files.
    overwrite : bool
        Replace existing files.

    Raises
    ------
    InputError
        Files with these names exist, or there is no state to resume from.
    """

    def __init__(self, output, *, resume: bool, overwrite: bool):
        self.output = check_format(output, ".safetensors")
        self.step, self.seconds, self.rows = 0, 0.0, []
        self._identity: dict = {}
        self._writer = None
        if resume:
            if not self._state.is_file():
                raise InputError(f"{self._state}: no saved state to resume from: start without --resume")
        elif self._state.exists() and not overwrite:
            raise InputError(
                f"{self._state}: an unfinished run: continue it with --resume, or start over with --overwrite"
            )
        for path in (self.output, self.log, self.last, self.curves):
            check_writable(path, overwrite=overwrite or resume)
        if not resume:
            if self.tensorboard.exists() and not overwrite:
                raise InputError(f"{self.tensorboard}: exists already: give --overwrite or another name")
            # The store is rebuilt from its sources. Results of an earlier run stay until this run has the first ones.
            self.discard_store()

    @property
    def log(self) -> Path:
        """The log as CSV, one row per evaluation."""
        return self._beside("log.csv")

    @property
    def last(self) -> Path:
        """The last weights, if earlier ones were better."""
        return self._beside("last.safetensors")

    @property
    def curves(self) -> Path:
        """The plot of the log."""
        return self._beside("curves.png")

    @property
    def tensorboard(self) -> Path:
        """The folder of TensorBoard's log."""
        return self._beside("tensorboard")

    @property
    def store(self) -> Path:
        """The temporary store of a run without a given store; deleted at the end of the run."""
        return self._beside("run-store")

    @property
    def _state(self) -> Path:
        return self._beside("state.safetensors")

    def _beside(self, kind: str) -> Path:
        return self.output.with_suffix(f".{kind}")

    def identify(self, **identity) -> None:
        """Record what defines the run (JSON-serialisable): states of other runs are not resumed."""
        self._identity = json.loads(json.dumps(identity))

    def load(self, network: torch.nn.Module, optimizers: list) -> None:
        """Restore the saved state; InputError if it is damaged or belongs to another run."""
        with reading(self._state, "state", "start without --resume"):
            with safe_open(self._state, framework="pt") as file:
                content = json.loads(file.metadata()["state"])
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
            _check_content(content)
        different = [key for key, value in self._identity.items() if content["run"].get(key) != value]
        if different:
            raise InputError(f"{self._state}: belongs to a run with another {different[0]}: start without --resume")
        with reading(self._state, "state", "start without --resume"):
            if content["step"] > self._identity["config"]["steps"]:
                raise ValueError(f"it is at step {content['step']} of {self._identity['config']['steps']}")
            _check_tensors(tensors, network, optimizers)
        network.load_state_dict({k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")})
        for number, (parameter, optimizer) in enumerate(_parameters(optimizers)):
            state = {name: tensors[f"optimizer.{number}.{name}"] for name in _state_names(optimizer)}
            optimizer.state[parameter] = {k: v if k == "step" else v.to(parameter.device) for k, v in state.items()}
        self.step, self.seconds, self.rows = content["step"], float(content["seconds"]), content["rows"]

    def record(self, row: dict, checkpoint: Checkpoint, network, optimizers: list, *, plot: bool) -> None:
        """Save an evaluation: its row of the log, the state, and the checkpoint, as the best one or as the last."""
        card = {**checkpoint.card, "monitors": row}
        evaluated = Checkpoint(checkpoint.config, checkpoint.weights, card)
        best = all(_score(row) >= _score(other) for other in self.rows)
        if not self.rows:
            shutil.rmtree(self.tensorboard, ignore_errors=True)
        evaluated.save(self.output if best else self.last, overwrite=True)
        if best:
            self.last.unlink(missing_ok=True)
        self.rows.append(row)
        self._save_state(network, optimizers)
        with written_whole(self.log, overwrite=True) as temporary, open(temporary, "w", newline="") as file:
            writer = csv.DictWriter(file, self.rows[0])
            writer.writeheader()
            writer.writerows(self.rows)
        self._log_to_tensorboard(row)
        if plot:
            from .curves import plot_training

            with written_whole(self.curves, overwrite=True) as temporary:
                plot_training(self.rows).savefig(temporary, dpi=150)

    def finish(self) -> None:
        """Delete the files that were only needed to resume the run."""
        if self._writer:
            self._writer.close()
        self._state.unlink(missing_ok=True)
        self.discard_store()

    def discard_store(self) -> None:
        """Delete the temporary store."""
        shutil.rmtree(self.store, ignore_errors=True)

    def _save_state(self, network, optimizers) -> None:
        tensors = {f"model.{key}": value for key, value in network.state_dict().items()}
        for number, (parameter, optimizer) in enumerate(_parameters(optimizers)):
            for key, value in optimizer.state[parameter].items():
                tensors[f"optimizer.{number}.{key}"] = value
        content = {"run": self._identity, "step": self.step, "seconds": self.seconds, "rows": self.rows}
        tensors = {key: value.contiguous() for key, value in tensors.items()}
        with written_whole(self._state, overwrite=True) as temporary:
            try:
                save_file(tensors, os.fspath(temporary), {"state": json.dumps(content)})
            except SafetensorError as error:  # such as on a full disk
                raise InputError(f"{self._state}: could not be written ({reason_of(error)})") from error

    def _log_to_tensorboard(self, row: dict) -> None:
        from torch.utils.tensorboard import SummaryWriter

        try:
            if self._writer is None:
                self._writer = SummaryWriter(self.tensorboard, purge_step=row["step"])
            for name, value in row.items():
                if name != "step":
                    self._writer.add_scalar(name, value, row["step"])
            self._writer.flush()
        except OSError as error:
            raise InputError(f"{self.tensorboard}: could not be written ({reason_of(error)})") from error


def _score(row: dict) -> float:
    """Score by which the best weights are selected; constant if nothing is monitored, so that the last ones win."""
    value = row.get("reidentification", math.nan)
    return -math.inf if math.isnan(value) else value


def _parameters(optimizers: list) -> list[tuple[torch.nn.Parameter, torch.optim.Optimizer]]:
    """Every parameter with its optimiser."""
    return [(p, o) for o in optimizers for group in o.param_groups for p in group["params"]]


def _state_names(optimizer: torch.optim.Optimizer) -> tuple[str, ...]:
    """Names of the state that an optimiser keeps for each parameter."""
    return ("step", "exp_avg", "exp_avg_sq") if isinstance(optimizer, torch.optim.AdamW) else ("momentum_buffer",)


def _check_content(content: dict) -> None:
    """ValueError if this is not the state of a run."""
    run, step, seconds, rows = (content[name] for name in ("run", "step", "seconds", "rows"))
    if not isinstance(run, dict) or type(step) is not int or not _is_number(seconds) or not seconds >= 0:
        raise ValueError("an entry is of the wrong type")
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        raise ValueError("it has no rows of a log")
    if not all(row.keys() == rows[0].keys() and all(map(_is_number, row.values())) for row in rows):
        raise ValueError("the rows of its log have different columns, or values that are not numbers")
    steps = [row["step"] for row in rows]
    if steps[0] < 1 or steps[-1] != step or any(a >= b for a, b in pairwise(steps)):
        raise ValueError(f"its log does not end at step {step}")


def _check_tensors(tensors: dict[str, torch.Tensor], network: torch.nn.Module, optimizers: list) -> None:
    """ValueError if these are not the tensors of this network and of the state of these optimisers."""
    expected = {f"model.{key}": value for key, value in network.state_dict().items()}
    for number, (parameter, optimizer) in enumerate(_parameters(optimizers)):
        for name in _state_names(optimizer):
            expected[f"optimizer.{number}.{name}"] = torch.tensor(0.0) if name == "step" else parameter
    for key in sorted(expected.keys() | tensors.keys()):
        if key not in tensors or key not in expected:
            raise ValueError(f"{key} is {'missing' if key in expected else 'unknown'}")
        tensor, like = tensors[key], expected[key]
        if tensor.shape != like.shape or tensor.dtype != like.dtype or not torch.isfinite(tensor).all():
            raise ValueError(f"{key} has another shape or dtype, or is not finite")


def _is_number(value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)

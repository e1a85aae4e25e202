"""The state of a training run on disk: all that is needed to go on as if it had not stopped."""

import csv
import json
import os
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ..errors import InputError
from ..files import written_whole

LOG_COLUMNS = ("step", "seconds", "loss", "reidentification", "rank_me")


class RunState:
    """Where a run stands: its step, the seconds it took, and the rows of its log.

    Parameters
    ----------
    path : Path
        The ``.state.safetensors`` file.
    run : dict
        What fixes the run; a state of another run is not gone on with. Plain values for JSON.
    """

    def __init__(self, path: Path, run: dict):
        self._path = path
        self._run = json.loads(json.dumps(run))
        self.step, self.seconds, self.rows = 0, 0.0, []

    def save(self, modules: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Write the state, whole or not at all."""
        tensors = {f"model.{key}": value for key, value in modules.state_dict().items()}
        for number, parameter in enumerate(_parameters(optimizer)):
            for key, value in optimizer.state[parameter].items():
                tensors[f"optimizer.{number}.{key}"] = value
        content = {"run": self._run, "step": self.step, "seconds": self.seconds, "rows": self.rows}
        with written_whole(self._path, overwrite=True) as temporary:
            tensors = {key: value.contiguous() for key, value in tensors.items()}
            save_file(tensors, os.fspath(temporary), {"state": json.dumps(content)})

    def load(self, modules: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Take up the saved state; InputError where there is none, or one of another run."""
        if not self._path.is_file():
            raise InputError(f"{self._path}: no saved state to resume from: start without --resume")
        try:
            with safe_open(self._path, framework="pt") as file:
                content = json.loads(file.metadata()["state"])
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
        except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"{self._path}: not a readable state ({error}): start without --resume") from None
        if content["run"] != self._run:
            raise InputError(f"{self._path}: is of a run with other settings or recordings: start without --resume")
        modules.load_state_dict({k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")})
        for number, parameter in enumerate(_parameters(optimizer)):
            prefix = f"optimizer.{number}."
            state = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
            optimizer.state[parameter] = {k: v if k == "step" else v.to(parameter.device) for k, v in state.items()}
        self.step, self.seconds, self.rows = content["step"], content["seconds"], content["rows"]

    def write_log(self, path: Path) -> None:
        """Write the rows of the log as CSV."""
        with written_whole(path, overwrite=True) as temporary, open(temporary, "w", newline="") as file:
            writer = csv.DictWriter(file, LOG_COLUMNS)
            writer.writeheader()
            writer.writerows(self.rows)

    def remove(self) -> None:
        """Delete the file: the run is over."""
        self._path.unlink(missing_ok=True)


def _parameters(optimizer) -> list[torch.nn.Parameter]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]

"""The ways in which this package says no. Each message is one line that names the culprit and the mend."""


class InputError(ValueError):
    """The recording, or a parameter, cannot be used."""


class CheckpointError(ValueError):
    """The model cannot be found, read or applied to this input."""


class DeviceError(RuntimeError):
    """The device is absent, or its memory does not suffice."""


class RecordingWarning(UserWarning):
    """Something of the recording is left out or doubtful; the work goes on."""


def first_line(error: Exception) -> str:
    """The beginning of what another library's error says, to quote in one of ours."""
    return str(error).strip().split("\n")[0][:200]

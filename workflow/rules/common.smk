"""Settings, the table of sessions, and which results are wanted."""

import csv
import os
import shlex
from collections import defaultdict
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.utils import validate

validate(config, "../schemas/config.schema.yaml")
RESULTS = config["results"].rstrip("/")
DECODER = config.get("decoder", "")


def read_sessions(path):
    """The rows of the table of sessions, by name."""
    with open(path, newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    for number, row in enumerate(rows, start=2):
        if None in row:
            raise WorkflowError(f"{path}: line {number}: too many entries")
        for key in list(row):
            row[key] = (row[key] or "").strip()
            if not row[key]:
                del row[key]
        try:
            validate(row, "../schemas/sessions.schema.yaml")
        except WorkflowError as error:
            raise WorkflowError(f"{path}: line {number}: {error}") from None
    names = [row["session"] for row in rows]
    if len(set(names)) < len(names) or not names:
        raise WorkflowError(f"{path}: give each recording a name of its own, and at least one recording")
    return {row["session"]: row for row in rows}


SESSIONS = read_sessions(config["sessions"])


def source_of(session):
    """The recording of a session: relative to the folder of the table."""
    return os.path.join(os.path.dirname(config["sessions"]), SESSIONS[session]["source"])


def source(wildcards):
    """The recording of a job."""
    return source_of(wildcards.session)


def files_of(session):
    """The files of a recording, of which a folder has many; none if it is missing, which is an outcome."""
    path = Path(source_of(session))
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    # Snakemake takes braces in a path for wildcards.
    return [str(file) for file in files if not {"{", "}"} & set(str(file))]


def files(wildcards):
    """The files of a job's recording, which is computed again when one of them changes."""
    return files_of(wildcards.session)


def local(*names):
    """Those of these models or decoders that are files of one's own."""
    return [name for name in names if name and os.path.isfile(name)]


def quoted(*options):
    """Options whose value is set, for a shell."""
    return " ".join(f"{option} {shlex.quote(str(value))}" for option, value in options if value not in ("", None))


# How recordings are read, and by which model they are embedded: the same in every rule.
READING = f"{quoted(('--model', config.get('model')))} {config['options']}"
MODELS = local(config.get("model"))
DEVICE = quoted(("--device", config["device"]))
PREDICTION = quoted(("--decoder", DECODER), ("--target-error", config.get("target_error") if DECODER else None))
GPU = {"gres": "gpu:1"} if config["device"].startswith("cuda") else {}


def usable(wildcards):
    """Sessions that could be read and embedded, which is known once all have been tried."""
    found = []
    for session in SESSIONS:
        with open(checkpoints.embed.get(session=session).output.outcome, newline="", encoding="utf-8") as file:
            if all(row["outcome"] in ("done", "up to date") for row in csv.DictReader(file)):
                found.append(session)
    return found


def of_animals(sessions):
    """Sessions of each animal that has two or more."""
    groups = defaultdict(list)
    for session in sessions:
        if SESSIONS[session].get("animal"):
            groups[SESSIONS[session]["animal"]].append(session)
    return {animal: names for animal, names in groups.items() if len(names) > 1}


def sessions_of(wildcards):
    """The recordings of a job's animal that could be read."""
    return of_animals(usable(wildcards))[wildcards.animal]


def predicted(wildcards):
    """Tables of predictions."""
    return [f"{RESULTS}/identities/{session}.csv" for session in usable(wildcards)] if DECODER else []


def matched(wildcards):
    """Tables of the neurons of each animal."""
    animals = of_animals(usable(wildcards)) if config["match"] else {}
    return [f"{RESULTS}/matches/{animal}.neurons.csv" for animal in animals]


def wanted(wildcards):
    """Results beside the table of all units."""
    pages = [f"{RESULTS}/reports/{session}.html" for session in usable(wildcards)] if config["reports"] else []
    return [*predicted(wildcards), *matched(wildcards), *pages]

"""Models on the Hugging Face Hub: downloaded once, verified, and then read from the cache; and published there."""

import hashlib
import re
from pathlib import Path

from ..errors import CheckpointError, InputError, reason_of

_REPO = r"[\w.-]+/[\w.-]+"
_NAME = re.compile(rf"hf://(?P<repo>{_REPO})(/(?P<file>[^@]+))?(@(?P<revision>[\w./-]+))?")


def fetch(name: str, default_file: str) -> tuple[Path, str]:
    """The file behind ``hf://owner/repo[/file][@revision]`` and its commit.

    A cached file is used without contacting the Hub, so that a name always refers to the same file, with or without a
    network. To get a newer file, name its revision.

    Raises
    ------
    CheckpointError
        The name is malformed, the file is not on the Hub, or it is not cached and the Hub cannot be reached.
    """
    match = _NAME.fullmatch(name)
    if match is None:
        raise CheckpointError(f"{name}: not of the form hf://owner/repo[/file][@revision]")
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import (
        EntryNotFoundError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    repo, file, revision = match["repo"], match["file"] or default_file, match["revision"]
    try:
        try:
            path = Path(hf_hub_download(repo, file, revision=revision, local_files_only=True))
        except LocalEntryNotFoundError:
            path = Path(hf_hub_download(repo, file, revision=revision))
    except LocalEntryNotFoundError:
        raise CheckpointError(
            f"{name}: the Hub cannot be reached and the file is not in the cache: connect once to fetch it"
        ) from None
    except RepositoryNotFoundError:
        raise CheckpointError(f"{name}: the Hub has no repository {repo!r}, or it is private: log in with hf") from None
    except RevisionNotFoundError:
        raise CheckpointError(f"{name}: {repo} has no revision {revision!r}") from None
    except EntryNotFoundError:
        raise CheckpointError(f"{name}: {repo} has no file {file!r}: name one as hf://{repo}/FILE") from None
    except (HfHubHTTPError, OSError, ValueError) as error:
        raise CheckpointError(f"{name}: could not be fetched ({reason_of(error)})") from None
    _check_content(name, path)
    # The cache keeps each commit's files in snapshots/<commit>/.
    commit = path.parts[path.parts.index("snapshots") + 1] if "snapshots" in path.parts else revision or ""
    return path, commit


def check_repo(repo: str) -> None:
    """InputError if this is not the name of a repository."""
    if not re.fullmatch(_REPO, repo):
        raise InputError(f"{repo}: not of the form owner/repo")


def publish(repo: str, files: dict[str, bytes | Path], *, private: bool, overwrite: bool, message: str) -> str:
    """Put files into a repository of models on the Hub, which is created if there is none, in one commit.

    Parameters
    ----------
    repo : str
        ``owner/repo``.
    files : dict of str to bytes or Path
        Content of each file, by its name in the repository.
    private : bool
        Whether a new repository is private; an existing one must be.
    overwrite : bool
        Replace files of these names. The Hub keeps the earlier ones in its history.
    message : str
        Of the commit.

    Returns
    -------
    str
        Address of the commit.

    Raises
    ------
    InputError
        The name is malformed, or the Hub cannot be reached or refuses.
    """
    check_repo(repo)
    from huggingface_hub import CommitOperationAdd, HfApi
    from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError

    hub = HfApi()
    try:
        try:
            existing = hub.repo_info(repo)
        except RepositoryNotFoundError:
            hub.create_repo(repo, private=private)
        else:
            _check_existing(repo, existing, list(files), private=private, overwrite=overwrite)
        operations = [CommitOperationAdd(name, content) for name, content in files.items()]
        return str(hub.create_commit(repo, operations, commit_message=message).commit_url)
    except InputError:
        raise
    except HfHubHTTPError as error:
        if getattr(error.response, "status_code", None) in (401, 403):
            raise InputError(f"{repo}: the Hub does not let you write there: log in with `hf auth login`") from None
        raise InputError(f"{repo}: could not be published ({reason_of(error)})") from None
    except Exception as error:  # no login, no network: each version of huggingface_hub raises its own
        raise InputError(
            f"{repo}: could not be published ({reason_of(error)}): log in with `hf auth login`, or check the network"
        ) from None


def _check_existing(repo: str, existing, names: list[str], *, private: bool, overwrite: bool) -> None:
    """InputError if what a repository holds would be replaced, or if it is public and should not be."""
    if private and not existing.private:
        raise InputError(f"{repo}: exists and is public: make it private on the Hub, or leave out --private")
    there = sorted({file.rfilename for file in existing.siblings or ()} & set(names))
    if there and not overwrite:
        raise InputError(f"{repo}: has {' and '.join(there)} already: give --overwrite or another name")


def _check_content(name: str, path: Path) -> None:
    """CheckpointError if a large cached file is damaged: its blob is named after the sha256 of its content."""
    blob = path.resolve()
    if re.fullmatch(r"[0-9a-f]{64}", blob.name):
        digest = hashlib.sha256(blob.read_bytes()).hexdigest()
        if digest != blob.name:
            raise CheckpointError(f"{name}: the cached copy {blob} is damaged: delete it and fetch it again")

"""hf:// names, against a local server that speaks the Hub's protocol."""

import base64
import dataclasses
import hashlib
import json
import os
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest
import yaml

from spikeinterface_nuclr import Checkpoint, CheckpointError, load_checkpoint
from spikeinterface_nuclr.cli.publish import _public, hub_card

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(BaseHTTPRequestHandler):
    """One repository, lab/model, with one file."""

    content = b""
    published: ClassVar[dict] = {}

    @property
    def address(self):
        return f"http://127.0.0.1:{self.server.server_port}"

    def do_HEAD(self):
        self.answer(body=False)

    def do_GET(self):
        self.answer(body=True)

    def do_POST(self):
        """Accept a commit of files whose content it holds."""
        sent = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Authorization") != "Bearer hf_secret":
            return self.reply(401, {"error": "Invalid credentials"})
        if self.path == "/api/repos/create":
            asked = json.loads(sent)
            self.published.update(asked, private=asked.get("private") or asked.get("visibility") == "private")
            return self.reply(200, {"url": f"{self.address}/lab/new", "id": "lab/new"})
        if self.path == "/api/validate-yaml":
            return self.reply(200, {"errors": [], "warnings": []})
        if "/preupload/" in self.path:
            files = [{"path": file["path"], "uploadMode": "regular"} for file in json.loads(sent)["files"]]
            return self.reply(200, {"files": [{**file, "shouldIgnore": False, "oid": None} for file in files]})
        for line in map(json.loads, sent.splitlines()):
            if line["key"] == "file":
                self.published[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            else:
                self.published["message"] = line["value"]["summary"]
        return self.reply(200, {"commitUrl": f"{self.address}/lab/new/commit/{COMMIT}", "commitOid": COMMIT})

    def reply(self, status, content):
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def answer(self, body):
        parts = self.path.split("?")[0].strip("/").split("/")
        if parts[:2] == ["api", "models"] and self.published:
            files = [{"rfilename": name} for name in self.published if "." in name]
            return self.reply(200, {"id": "lab/new", "private": self.published["private"], "siblings": files})
        if parts[:2] != ["lab", "model"]:
            return self.refuse("RepoNotFound")
        if parts[3] not in ("main", "v1", COMMIT):
            return self.refuse("RevisionNotFound")
        if parts[4:] != ["model.safetensors"]:
            return self.refuse("EntryNotFound")
        self.send_response(200)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{hashlib.sha256(self.content).hexdigest()}"')
        self.send_header("Content-Length", str(len(self.content)))
        self.end_headers()
        if body:
            self.wfile.write(self.content)
        return None

    def refuse(self, code):
        self.send_response(404)
        self.send_header("X-Error-Code", code)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def hub(checkpoint):
    Hub.content = checkpoint._bytes
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


SCRIPT = """
import sys
from spikeinterface_nuclr import CheckpointError, load_checkpoint
for name in sys.stdin:
    try:
        checkpoint = load_checkpoint(name.strip())
        print(checkpoint.sha256, checkpoint.revision, flush=True)
    except CheckpointError as error:
        print("refused:", error, flush=True)
"""


def environment_of(port: int, cache: Path, **further: str) -> dict:
    """Of a new process, where HF_ENDPOINT is read."""
    outside = {name: value for name, value in os.environ.items() if name not in ("HF_HUB_OFFLINE", "HF_TOKEN")}
    return {
        **outside,
        "HF_ENDPOINT": f"http://127.0.0.1:{port}",
        "HF_HOME": str(cache),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DOWNLOAD_TIMEOUT": "5",
        "HF_HUB_ETAG_TIMEOUT": "5",
        "no_proxy": "*",
        **further,
    }


@contextmanager
def loading(port: int, cache: Path):
    """Load checkpoints by name in a new process: a function from name to answer."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", SCRIPT], env=environment_of(port, cache), **pipes) as process:

        def ask(name):
            process.stdin.write(f"{name}\n")
            process.stdin.flush()
            return process.stdout.readline().strip()

        yield ask
        process.stdin.close()
    assert process.returncode == 0


@pytest.mark.slow
def test_what_was_fetched_once_is_read_from_the_cache_without_a_network(hub, tmp_path, checkpoint):
    expected = f"{checkpoint.sha256} {COMMIT}"
    with loading(hub.server_port, tmp_path) as ask:
        assert ask("hf://lab/model") == expected
        assert ask("hf://lab/model/model.safetensors@v1") == expected
        for name, message in (
            ("hf://lab/nothing", "the Hub has no repository 'lab/nothing'"),
            ("hf://lab/model@v9", "lab/model has no revision 'v9'"),
            ("hf://lab/model/absent.safetensors", "lab/model has no file 'absent.safetensors'"),
        ):
            assert ask(name).startswith(f"refused: {name}: {message}")
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with loading(port, tmp_path) as ask:
        assert ask("hf://lab/model") == expected
        assert ask(f"hf://lab/model@{COMMIT}") == expected
        assert ask("hf://lab/model/other.safetensors").startswith(
            "refused: hf://lab/model/other.safetensors: the Hub cannot be reached and the file is not in the cache"
        )
        (blob,) = (tmp_path / "hub" / "models--lab--model" / "blobs").iterdir()
        content = bytearray(blob.read_bytes())
        content[-1] ^= 1
        blob.write_bytes(content)
        assert "is damaged: delete it" in ask("hf://lab/model")


@pytest.mark.parametrize("name", ["hf://lab", "hf://lab/", "hf:///model", "hf://lab/model@"])
def test_malformed_names_are_refused(name):
    with pytest.raises(CheckpointError, match="not of the form"):
        load_checkpoint(name)


def published(port, cache, *arguments, **environment):
    command = [sys.executable, "-m", "spikeinterface_nuclr", "publish", *map(str, arguments)]
    return subprocess.run(
        command, env=environment_of(port, cache, **environment), capture_output=True, text=True, timeout=120
    )


@pytest.mark.slow
def test_a_model_is_published_with_its_card(hub, checkpoint, tmp_path):
    file, card = checkpoint.save(tmp_path / "mine.safetensors"), tmp_path / "card.json"
    card.write_text(json.dumps({"license": "CC0-1.0", "training_data": [{"what": "ten | units", "citation": "us"}]}))
    refused = published(hub.server_port, tmp_path, file, "lab/new", HF_TOKEN="hf_secret")
    assert (refused.returncode, Hub.published) == (4, {})
    assert refused.stderr == "nuclr: lab/new: the model names no licence: give --card with an entry 'license'\n"
    for repo, environment, message in (
        ("lab/new", {"HF_TOKEN": "hf_wrong"}, "lab/new: the Hub does not let you write there: log in with `hf auth"),
        ("new", {"HF_TOKEN": "hf_secret"}, "new: not of the form owner/repo"),
    ):
        refused = published(hub.server_port, tmp_path, file, repo, "--card", card, **environment)
        assert (refused.returncode, Hub.published) == (3, {})
        assert refused.stderr.startswith(f"nuclr: {message}")
    shown = published(hub.server_port, tmp_path, file, "lab/new", "--card", card, "--show")
    assert Hub.published == {}

    done = published(hub.server_port, tmp_path, file, "lab/new", "--card", card, "--private", HF_TOKEN="hf_secret")
    assert done.returncode == 0, done.stderr
    address = f"http://127.0.0.1:{hub.server_port}/lab/new/commit/{COMMIT}"
    assert done.stdout == f"{address}: load it as hf://lab/new, sha256 {checkpoint.sha256}\n"
    assert (Hub.published["name"], Hub.published["organization"]) == ("new", "lab")
    assert Hub.published["private"] is True
    assert str(tmp_path) not in Hub.published["message"]
    page = Hub.published["README.md"].decode()
    assert page == shown.stdout
    _, metadata, text = page.split("---\n", 2)
    metadata = yaml.safe_load(metadata)
    assert (metadata["license"], metadata["library_name"]) == ("cc0-1.0", "spikeinterface-nuclr")
    assert r"- ten \| units. us" in text
    assert str(tmp_path) not in text
    assert f"| sha256 | {checkpoint.sha256} |" in text
    (tmp_path / "model.safetensors").write_bytes(Hub.published["model.safetensors"])
    loaded = load_checkpoint(tmp_path / "model.safetensors")
    assert (loaded.sha256, loaded.card["license"]) == (checkpoint.sha256, "CC0-1.0")

    arguments = (hub.server_port, tmp_path, file, "lab/new", "--card", card)
    refused = published(*arguments, HF_TOKEN="hf_secret")
    assert refused.stderr == (
        "nuclr: lab/new: has README.md and model.safetensors already: give --overwrite or another name\n"
    )
    assert published(*arguments, "--overwrite", HF_TOKEN="hf_secret").returncode == 0
    Hub.published["private"] = False
    refused = published(*arguments, "--overwrite", "--private", HF_TOKEN="hf_secret")
    assert "exists and is public" in refused.stderr


def test_a_decoder_has_a_page_too(nuclr):
    page = nuclr("publish", "simulated-cell-type", "lab/types", "--show").stdout
    assert yaml.safe_load(page.split("---\n")[1])["license"] == "bsd-3-clause"
    assert "nuclr predict session.nwb --decoder hf://lab/types" in page
    assert "## Not for\n\nreal neurons" in page
    assert "/decoder.safetensors" not in page
    assert "| target | cell\\_type |" in page
    nuclr("publish", "hf://lab/model", "lab/other", code=3)
    nuclr("publish", "simulated-cell-type", "types", "--show", code=3)


def test_what_names_local_files_is_not_published(checkpoint, nuclr, tmp_path):
    member = {"command": "nuclr train /home/me/secret", "license": "MIT"}
    card = {**member, "members": [member, member]}
    another = dataclasses.replace(checkpoint, weights={name: w + 1 for name, w in checkpoint.weights.items()})
    ensemble = Checkpoint.joined([checkpoint, another])
    path = dataclasses.replace(ensemble, card=card).save(tmp_path / "both.safetensors")
    shown = nuclr("publish", path, "lab/both", "--show").stdout
    assert "secret" not in shown + json.dumps(_public(card))
    assert _public(card)["members"] == [{"license": "MIT"}] * 2


def test_a_licence_that_the_hub_does_not_know_is_named(checkpoint):
    lines = {"sha256": checkpoint.sha256, "a\nb": "x|y"}
    page = hub_card("lab/new", {"license": "Our own"}, lines)
    metadata = yaml.safe_load(page.split("---\n")[1])
    assert (metadata["license"], metadata["license_name"]) == ("other", "Our own")
    assert r"| a\\nb | x\|y |" in page

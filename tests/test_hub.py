"""hf:// names, against a local server that speaks the Hub's protocol."""

import hashlib
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from spikeinterface_nuclr import CheckpointError, load_checkpoint

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(BaseHTTPRequestHandler):
    """One repository, lab/model, with one file."""

    content = b""

    def do_HEAD(self):
        self.answer(body=False)

    def do_GET(self):
        self.answer(body=True)

    def answer(self, body):
        parts = self.path.split("?")[0].strip("/").split("/")
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


@pytest.fixture
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
try:
    found = load_checkpoint(sys.argv[1])
    print(found.sha256, found.revision)
except CheckpointError as error:
    print("refused:", error)
"""


@pytest.fixture
def ask(hub, tmp_path):
    """Load a name in a new process, where HF_ENDPOINT is read."""

    def ask(name):
        environment = {
            **os.environ,
            "HF_ENDPOINT": f"http://127.0.0.1:{hub.server_port}",
            "HF_HOME": str(tmp_path / "hf"),
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DOWNLOAD_TIMEOUT": "5",
            "HF_HUB_ETAG_TIMEOUT": "5",
            "no_proxy": "*",
        }
        environment.pop("HF_HUB_OFFLINE", None)
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, name], env=environment, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip().splitlines()[-1]

    return ask


def test_a_name_is_fetched_once_and_read_from_the_cache_without_a_network(hub, ask, checkpoint):
    expected = f"{checkpoint.sha256} {COMMIT}"
    assert ask("hf://lab/model") == expected
    assert ask("hf://lab/model/model.safetensors@v1") == expected
    hub.shutdown()
    hub.server_close()
    assert ask("hf://lab/model") == expected
    assert ask(f"hf://lab/model@{COMMIT}") == expected
    assert ask("hf://lab/model/other.safetensors").startswith(
        "refused: hf://lab/model/other.safetensors: the Hub cannot be reached and the file is not in the cache"
    )


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("hf://lab/nothing", "the Hub has no repository 'lab/nothing'"),
        ("hf://lab/model@v9", "lab/model has no revision 'v9'"),
        ("hf://lab/model/absent.safetensors", "lab/model has no file 'absent.safetensors'"),
    ],
)
def test_what_the_hub_does_not_hold_is_named(ask, name, says):
    answer = ask(name)
    assert answer.startswith("refused:")
    assert says in answer


def test_a_damaged_cache_is_noticed(ask, tmp_path):
    ask("hf://lab/model")
    (blob,) = (tmp_path / "hf" / "hub" / "models--lab--model" / "blobs").iterdir()
    content = bytearray(blob.read_bytes())
    content[-1] ^= 1
    blob.write_bytes(content)
    assert "is damaged: delete it" in ask("hf://lab/model")


@pytest.mark.parametrize("name", ["hf://lab", "hf://lab/", "hf:///model", "hf://lab/model@"])
def test_malformed_names_are_refused(name):
    with pytest.raises(CheckpointError, match="not of the form"):
        load_checkpoint(name)

"""hf:// names, against a local server that speaks the Hub's protocol."""

import hashlib
import os
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

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


@contextmanager
def loading(port: int, cache: Path):
    """Load checkpoints by name in a new process, where HF_ENDPOINT is read: a function from name to answer."""
    environment = {
        **os.environ,
        "HF_ENDPOINT": f"http://127.0.0.1:{port}",
        "HF_HOME": str(cache),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DOWNLOAD_TIMEOUT": "5",
        "HF_HUB_ETAG_TIMEOUT": "5",
        "no_proxy": "*",
    }
    environment.pop("HF_HUB_OFFLINE", None)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", SCRIPT], env=environment, **pipes) as process:

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

#!/bin/sh
# Write containers/requirements.txt: the newest versions of everything but torch, to be tested and then kept.
set -eu
cd "$(dirname "$0")/.."
wheels=$(mktemp -d)
trap 'rm -rf "$wheels"' EXIT
pip wheel --quiet --no-deps --wheel-dir "$wheels" ./ndx-nuclr
uv pip compile --quiet --python-version 3.13 --python-platform linux --find-links "$wheels" --no-emit-find-links \
    --no-emit-package torch --no-emit-package ndx-nuclr --no-annotate --no-header --extra zarr --extra cellexplorer \
    --extra train pyproject.toml | grep -vE '^(nvidia|cuda|triton)' > containers/requirements.txt

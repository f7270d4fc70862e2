#!/usr/bin/env bash
# Everything that needs a GPU, on one card, in at most seven minutes; gpu.py says what. It needs torch, transformers and
# peft, trl for the comparison with it, and trajtree's own dependencies; no model, no data, no network.
#
#     bash benchmarks/gpu.sh                                  # writes benchmarks/results/gpu.json
#     bash benchmarks/gpu.sh --device cpu --tiny --out x.json # the same steps in small, to test them
#
# Packages that the machine lacks are taken from wheels in the folder WHEELS, if it is set; nothing is downloaded.
set -euo pipefail
cd "$(dirname "$0")/.."
python="${PYTHON:-python3}"
export PYTHONPATH="$PWD/src:$PWD/benchmarks${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1 HF_HUB_OFFLINE=1
if [ -n "${WHEELS:-}" ]; then
    site="$(mktemp -d)"
    "$python" -m pip install -q --no-index --no-deps --no-compile --target "$site" "$WHEELS"/*.whl
    export PYTHONPATH="$PYTHONPATH:$site"
fi
exec "$python" benchmarks/gpu.py "$@"

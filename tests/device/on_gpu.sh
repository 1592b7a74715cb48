#!/usr/bin/env bash
# Everything that is to be measured and tested on a GPU, in under four minutes: a table, and all numbers as JSON.
#
#     tests/device/on_gpu.sh                    on the card
#     tests/device/on_gpu.sh --device cpu       a small set on the host, to see that it runs through
#
# Needs minires, CuPy and pytest; PyTorch is timed beside them where it is installed. PYTHON=... takes an interpreter.
set -euo pipefail
cd "$(dirname "$0")/../.."
export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH}
exec timeout --kill-after=5 230 "${PYTHON:-python3}" -m tests.device.on_gpu "$@"

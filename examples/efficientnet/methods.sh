#!/usr/bin/env bash
# The table of methods in README.md: a line for each, on standard output.
#
#     methods.sh WEIGHTS PHOTOS OTHER_PHOTOS
#
# The files are those that `prepare.py` writes.
set -euo pipefail
cd "$(dirname "$0")/../.."
weights=$(realpath "$1") photos=$(realpath "$2") others=$(realpath "$3")

run() {
    cargo run --release --quiet -p efficientnet --example efficientnet -- --json \
        --weights "$weights" --photos "$photos" --observe "$others" "$@" 2>/dev/null |
        python3 -c '
import json, sys
found = json.load(sys.stdin)
share, size = 100 * found["agreement"], found["bytes"] / 1e6
seconds = found["seconds_f32"] / found["seconds"]
print(f"| `{sys.argv[1]}` | {share:.1f} % | {size:.2f} MB | {seconds:.2f} |")' "$*"
}

echo "| options | same class as in floats | size | speed, f32 = 1 |"
echo "|---|---|---|---|"
gptq="--calibration gptq --depthwise-calibration least-squares"
for weights_as in channel tensor; do
    scheme="--scheme per-$weights_as-symmetric-int8 --activations static"
    run $scheme
    run $scheme --correct-biases
    run $scheme --equalize
    run $scheme --equalize --correct-biases
done
run --activations static $gptq
run --activations static $gptq --correct-biases
run --activations static $gptq --equalize --correct-biases
run --activations dynamic
run --activations dynamic $gptq
int4="--scheme per-channel-symmetric-int4 --depthwise-scheme per-channel-symmetric-int8"
run $int4 --activations dynamic
run $int4 --activations dynamic $gptq
run $int4 --activations dynamic $gptq --equalize
run $int4 --activations static $gptq --equalize --correct-biases

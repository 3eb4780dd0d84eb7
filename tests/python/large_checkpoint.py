"""Writes a safetensors file of many tensors of normal values: 4 GiB unless a size in MiB is given.

    python3 tests/python/large_checkpoint.py large.safetensors [MiB]

It is made to measure how a checkpoint larger than memory is quantized:

    /usr/bin/time -v quant quantize large.safetensors -o large.quant --max-memory 256MiB
"""

import json
import struct
import sys

import numpy as np

ROWS, COLUMNS = 4096, 2048  # 32 MiB
COUNT = int(sys.argv[2] if len(sys.argv) > 2 else 4096) // 32


def main(path):
    size = 4 * ROWS * COLUMNS
    header = {
        f"layers.{i}.weight": {
            "dtype": "F32",
            "shape": [ROWS, COLUMNS],
            "data_offsets": [i * size, (i + 1) * size],
        }
        for i in range(COUNT)
    }
    text = json.dumps(header).encode()
    text = text.ljust(-len(text) % 8 + len(text))
    values = np.random.default_rng(0).standard_normal((ROWS, COLUMNS), np.float32)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for i in range(COUNT):
            file.write((values * np.float32(1 + i / COUNT)).tobytes())


main(sys.argv[1])

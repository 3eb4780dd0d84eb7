#!/usr/bin/env python3
"""GPTQ as its paper has it, in numpy, against the codes that `quant` finds with the same moments and scales.

    python3 benches/peers/gptq.py QUANT MODEL.safetensors MOMENTS.safetensors [PATTERN]

QUANT is the command line. Second moments are those that `quant_formats::write_moments` writes, for example by
`cargo run --release --example minilm -- --save-moments MOMENTS.safetensors`. Each layer of the moments whose
name contains PATTERN is quantized to 4 bits in blocks of 32. The scales are taken from the result: the paper
leaves them to whoever quantizes.

A row is equal up to its first tie: where the value is halfway between two codes, rounding errors of either
implementation decide, and everything after follows from that. Rows whose codes are those of `mse`, because GPTQ
was no better, are counted apart.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from safetensors import safe_open

SCHEME = "per-block-full-range-int4:len=32"
BLOCK = 32


def matrix(moments, layer):
    """The matrix of a layer, of which any unit will do."""
    sums = moments.get_tensor(layer).astype(np.float64)
    n = int((2 * len(sums)) ** 0.5)
    h = np.zeros((n, n))
    h[np.tril_indices(n)] = sums
    return h + np.tril(h, -1).T


def gptq(weight, scales, h):
    """The codes of all rows, and how far each value was from a tie, in steps."""
    h = h + 0.01 * np.mean(np.diag(h)) * np.eye(len(h))
    # The upper factor of the inverse, as in the paper.
    upper = np.linalg.cholesky(np.linalg.inv(h)).T
    left = weight.astype(np.float64).copy()
    codes, distance = np.zeros(weight.shape), np.zeros(weight.shape)
    for k in range(weight.shape[1]):
        scale = scales[:, k // BLOCK].astype(np.float64)
        steps = left[:, k] / scale
        codes[:, k] = np.clip(np.rint(steps), -8, 7)
        distance[:, k] = np.abs(np.abs(steps - np.floor(steps)) - 0.5)
        error = (left[:, k] - codes[:, k] * scale) / upper[k, k]
        left[:, k:] -= error[:, None] * upper[k, k:][None, :]
    return codes, distance


def compare(name, weight, quantized, scales, h):
    expected, distance = gptq(weight, scales, h)
    wide = np.repeat(scales, BLOCK, axis=1)
    codes = np.rint(quantized / wide)
    nearest = np.clip(np.rint(weight / wide), -8, 7)
    by_mse = (codes == nearest).all(axis=1) & (codes != expected).any(axis=1)
    equal = (codes == expected).all(axis=1)
    ties = others = 0
    for row in np.flatnonzero(~equal & ~by_mse):
        first = np.flatnonzero(codes[row] != expected[row])[0]
        if distance[row, first] < 1e-5:
            ties += 1
        else:
            others += 1
    return {
        "layer": name,
        "rows": len(codes),
        "equal": int(equal.sum()),
        "equal_to_a_tie": ties,
        "by_mse": int(by_mse.sum()),
        "different": others,
    }


def main():
    quant, model, moments = sys.argv[1:4]
    pattern = sys.argv[4] if len(sys.argv) > 4 else ""
    results = []
    with tempfile.TemporaryDirectory() as folder, safe_open(moments, "numpy") as sums, safe_open(
        model, "numpy"
    ) as floats:
        layers = [layer for layer in sums.keys() if pattern in layer]
        recipe = Path(folder, "recipe.toml")
        rules = [
            f'[[rules]]\npath = "{layer}.weight"\nscheme = "{SCHEME}"\ncalibration = "gptq"\n'
            for layer in layers
        ]
        recipe.write_text("\n".join(rules))
        codes, values = Path(folder, "codes.safetensors"), Path(folder, "values.safetensors")
        run = [quant, "quantize", model, "-o", codes, "--recipe", recipe, "--moments", moments]
        subprocess.run(run, check=True, stdout=subprocess.DEVNULL)
        subprocess.run([quant, "dequantize", codes, "-o", values], check=True, stdout=subprocess.DEVNULL)
        with safe_open(codes, "numpy") as codes, safe_open(values, "numpy") as values:
            for layer in layers:
                weight = f"{layer}.weight"
                scales = codes.get_tensor(f"{weight}_scale")
                parts = floats.get_tensor(weight), values.get_tensor(weight), scales
                results.append(compare(layer, *parts, matrix(sums, layer)))
                print(json.dumps(results[-1]), flush=True)
    sys.exit(any(result["different"] for result in results))


main()

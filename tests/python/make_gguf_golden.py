"""Writes `tests/golden/types.gguf` with the Python package `gguf`: what the tests hold blocks to.

    python3 tests/python/make_gguf_golden.py

For each type of blocks there is a tensor of random blocks, zeros and ones, under the name of the
type, and a tensor `<type>.floats` with what the package makes of them. For each encoding there is a
tensor `encoded.<type>` with the blocks that the package makes of `input`. The metadata has a value of
each type. The package has no Q1_0 and Q8_K: theirs are computed here, as ggml defines them.
"""

import os

import numpy as np
from gguf import GGMLQuantizationType as Type
from gguf import GGUFWriter
from gguf.constants import GGML_QUANT_SIZES
from gguf.quants import dequantize, quantize

PATH = os.path.join(os.path.dirname(__file__), "..", "golden", "types.gguf")
PLAIN = [Type.F32, Type.F16, Type.BF16, Type.F64, Type.I8, Type.I16, Type.I32, Type.I64]
# Blocks of these are not stored in files.
NEVER = [Type.Q8_1]
# Types that schemes describe, and how many of their first numbers are halves, which must be finite.
HALVES = {Type.Q4_0: 1, Type.Q5_0: 1, Type.Q8_0: 1, Type.Q4_1: 2, Type.Q5_1: 2}


def floats(ty, blocks):
    """What blocks, one a row, stand for."""
    if ty == Type.Q1_0:
        d = blocks[:, :2].copy().view(np.float16).astype(np.float32)
        bits = np.unpackbits(blocks[:, 2:], axis=1, bitorder="little")
        return np.where(bits == 1, d, -d)
    if ty == Type.Q8_K:
        d = blocks[:, :4].copy().view(np.float32)
        return d * blocks[:, 4:260].copy().view(np.int8).astype(np.float32)
    return dequantize(blocks, ty)


def inputs(rng):
    """Rows for encodings: random ones of all magnitudes, ties, signs, zeros, and one value each."""
    rows = [rng.standard_normal(32) * 10.0**e for e in range(-9, 5)]
    rows += [np.arange(-16, 16) / 2, np.arange(32) - 31.5, np.full(32, -0.0), np.full(32, 1e-7)]
    rows += [np.where(np.arange(32) == at, value, 0) for at, value in ((0, 3), (31, -3), (16, 127))]
    rows += [np.where(np.arange(32) % 2, 127, -127) / 2, np.arange(32) * 127 / 62]
    return np.array(rows, np.float32)


def main():
    rng = np.random.default_rng(7)
    writer = GGUFWriter(PATH, "golden")
    for name in ("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64"):
        getattr(writer, f"add_{name}")(f"value.{name}", int(np.iinfo(name).max))
    writer.add_float32("value.float32", 1e-5)
    writer.add_float64("value.float64", 0.1)
    writer.add_bool("value.bool", True)
    writer.add_string("value.string", "a line\nand another")
    writer.add_array("array.strings", ["", "ü", "token"])
    writer.add_array("array.ints", [1, -2, 3])
    writer.add_array("array.floats", [0.5, -0.25])
    writer.add_array("array.bools", [True, False])
    for ty in (ty for ty in Type if ty not in PLAIN + NEVER):
        _, size = GGML_QUANT_SIZES[ty]
        random = rng.integers(0, 256, (2, size), np.uint8)
        blocks = np.concatenate([random, np.zeros((1, size)), np.full((1, size), 255)])
        blocks = blocks.astype(np.uint8)
        for half in range(HALVES.get(ty, 0)):
            blocks[:, 2 * half + 1] &= 0xBF
        with np.errstate(all="ignore"):
            values = floats(ty, blocks).astype(np.float32)
        writer.add_tensor(ty.name, blocks, raw_dtype=ty)
        writer.add_tensor(f"{ty.name}.floats", values)
    rows = inputs(rng)
    writer.add_tensor("input", rows)
    for ty in (Type.Q4_0, Type.Q4_1, Type.Q8_0):
        writer.add_tensor(f"encoded.{ty.name}", quantize(rows, ty), raw_dtype=ty)
    half = np.array([0, -0.0, 65504, 6e-8, 0.1], np.float16)
    brain = (np.array([1, -2.5, 3e38], np.float32).view(np.uint32) >> 16).astype(np.uint16)
    writer.add_tensor("F16", half)
    writer.add_tensor("BF16", brain.view(np.uint8).reshape(1, -1), raw_dtype=Type.BF16)
    writer.add_tensor("F64", np.array([0.1, 1 + 2.0**-24, 1e-320], np.float64))
    for width in (8, 16, 32, 64):
        writer.add_tensor(f"I{width}", np.arange(-2, 2).reshape(2, 2).astype(f"int{width}"))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    print(f"{os.path.normpath(PATH)}: {os.path.getsize(PATH)} bytes")


if __name__ == "__main__":
    main()

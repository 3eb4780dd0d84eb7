"""Reads safetensors files written by quant, and writes some for it to read.

    python3 tests/python/read_safetensors.py path/to/quant

converts `tests/fixtures/record-v1.quant` to safetensors, reads it with the format's own package and
compares every value with those of the JSON that quant makes of the same record; then writes files of
type F32, F16 and BF16, in one piece and in two, and compares what quant reads of them.
"""

import json
import os
import struct
import subprocess
import sys
import tempfile

import numpy as np
import safetensors.numpy

FIXTURE = os.path.join(os.path.dirname(__file__), "..", "fixtures", "record-v1.quant")


def quant(*arguments):
    return subprocess.run([QUANT, *arguments], check=True, capture_output=True, text=True).stdout


def float_of(value):
    if isinstance(value, str):
        return float(value)
    return value


def expected_values(tensor):
    """The values of a tensor of the JSON, by the formula of rule 3."""
    shape = tensor["shape"]
    if "values" in tensor:
        return np.array([float_of(v) for v in tensor["values"]], np.float32).reshape(shape)
    return None


def read_back(directory):
    """What quant writes, numpy reads with equal values."""
    file, text = os.path.join(directory, "a.safetensors"), os.path.join(directory, "a.json")
    floats = os.path.join(directory, "floats.json")
    quant("convert", FIXTURE, "-o", file)
    quant("convert", FIXTURE, "-o", text)
    quant("dequantize", FIXTURE, "-o", floats)
    with open(text) as opened:
        record = json.load(opened)["tensors"]
    with open(floats) as opened:
        dequantized = json.load(opened)["tensors"]
    tensors = safetensors.numpy.load_file(file)
    checked = 0
    for name, tensor in record.items():
        found = tensors[name]
        if "values" in tensor:
            np.testing.assert_array_equal(found, expected_values(tensor), err_msg=name)
            checked += 1
            continue
        expected = expected_values(dequantized[name])
        if found.dtype == np.int8 and "block" not in tensor["scheme"]:
            # The recipe of the documentation: (w - zero point) * scale, broadcast.
            zero_point = tensors.get(name + "_zero_point", np.int8(0))
            codes = found.astype(np.float32) - zero_point.astype(np.float32)
            np.testing.assert_array_equal(codes * tensors[name + "_scale"], expected, err_msg=name)
        scales = np.array(tensor["scales"], np.float32)
        np.testing.assert_array_equal(
            tensors[name + "_scale"].astype(np.float32).reshape(-1), scales, err_msg=name
        )
        checked += 1
    return checked


def write(directory):
    """What Python writes, quant reads with equal values."""
    rng = np.random.default_rng(1)
    single = rng.standard_normal((3, 5)).astype(np.float32)
    half = rng.standard_normal(7).astype(np.float16)
    brain = rng.standard_normal(6).astype(np.float32).view(np.uint32) >> 16
    one, two = {"single": single, "half": half}, brain.astype(np.uint16)
    metadata = {"format": "pt"}
    safetensors.numpy.save_file(one, os.path.join(directory, "one.safetensors"), metadata)
    # numpy has no bfloat16: what has its name in the header are the bits of it.
    bits = safetensors.numpy.save({"brain": two}, metadata).replace(b'"U16"', b'"BF16"')
    (length,) = struct.unpack("<Q", bits[:8])
    header = json.dumps(json.loads(bits[8 : 8 + length])).encode()
    with open(os.path.join(directory, "two.safetensors"), "wb") as file:
        padded = header.ljust(-len(header) % 8 + len(header))
        file.write(struct.pack("<Q", len(padded)) + padded + two.tobytes())
    index = os.path.join(directory, "model.safetensors.index.json")
    with open(index, "w") as file:
        places = {"single": "one.safetensors", "half": "one.safetensors", "brain": "two.safetensors"}
        json.dump({"metadata": {"total_size": 86}, "weight_map": places}, file)
    text = os.path.join(directory, "read.json")
    quant("convert", index, "-o", text)
    with open(text) as file:
        read = json.load(file)["tensors"]
    wide = (brain << 16).astype(np.uint32).view(np.float32)
    for name, expected in (("single", single), ("half", half.astype(np.float32)), ("brain", wide)):
        np.testing.assert_array_equal(expected_values(read[name]), expected, err_msg=name)
    return len(read)


if __name__ == "__main__":
    QUANT = os.path.abspath(sys.argv[1])
    with tempfile.TemporaryDirectory() as directory:
        print(f"{read_back(directory)} tensors of quant's and {write(directory)} of Python's are equal")

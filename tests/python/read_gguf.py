"""Compares what quant makes of a GGUF file with what the Python package `gguf` makes of it.

    python3 tests/python/read_gguf.py path/to/quant model.gguf

- converted to a record and back, metadata and every tensor have the same bytes;
- the floats of every tensor are those of the package, in every bit;
- floats quantized by `--scheme q8_0`, `q4_0` and `q4_1` have the blocks of the package.
"""

import json
import os
import struct
import subprocess
import sys
import tempfile

import numpy as np
from gguf import GGMLQuantizationType, GGUFReader
from gguf.quants import dequantize, quantize

ENCODINGS = ["Q8_0", "Q4_0", "Q4_1"]
# Enough tensors of a model to quantize, and not so many that it takes minutes.
LARGEST = 4 << 20


def quant(*arguments):
    return subprocess.run([QUANT, *arguments], check=True, capture_output=True, text=True).stdout


def raw(tensor):
    return np.ascontiguousarray(tensor.data).view(np.uint8).reshape(-1)


def floats(tensor):
    if tensor.tensor_type == GGMLQuantizationType.F32:
        return np.ascontiguousarray(tensor.data).reshape(-1)
    return dequantize(np.ascontiguousarray(tensor.data), tensor.tensor_type).reshape(-1)


def assert_same(found, expected, name):
    """Equal bits; all NaN are alike."""
    found, expected = found.astype(np.float32), expected.astype(np.float32)
    differs = (found.view(np.uint32) != expected.view(np.uint32)) & ~np.isnan(expected)
    assert found.shape == expected.shape and not differs.any(), name


def compare_files(first, second):
    """Both files have the same metadata, and tensors of the same bytes."""
    a, b = GGUFReader(first), GGUFReader(second)
    assert list(a.fields) == list(b.fields)
    for name, field in a.fields.items():
        parts = b.fields[name].parts
        assert len(parts) == len(field.parts), name
        for one, other in zip(field.parts, parts):
            assert one.tobytes() == other.tobytes(), name
    assert [tensor.name for tensor in a.tensors] == [tensor.name for tensor in b.tensors]
    for one, other in zip(a.tensors, b.tensors):
        assert one.tensor_type == other.tensor_type and list(one.shape) == list(other.shape)
        assert np.array_equal(raw(one), raw(other)), one.name
    return len(a.tensors)


def safetensors(path):
    """The F32 tensors of a safetensors file, by name."""
    data = np.memmap(path, np.uint8, "r")
    (length,) = struct.unpack("<Q", data[:8].tobytes())
    header = json.loads(data[8 : 8 + length].tobytes())
    header.pop("__metadata__", None)
    body = data[8 + length :]
    spans = {name: it["data_offsets"] for name, it in header.items() if it["dtype"] == "F32"}
    return {name: body[start:end].view(np.float32) for name, (start, end) in spans.items()}


def compare_floats(model, directory):
    path = os.path.join(directory, "floats.safetensors")
    quant("dequantize", model, "-o", path)
    found = safetensors(path)
    tensors = [tensor for tensor in GGUFReader(model).tensors if tensor.name in found]
    for tensor in tensors:
        assert_same(found[tensor.name], floats(tensor), tensor.name)
    assert len(tensors) == len(found)
    return len(tensors)


def compare_encodings(model, directory):
    compared = 0
    large = [it.name for it in GGUFReader(model).tensors if it.n_elements > LARGEST]
    omit = [argument for name in large for argument in ("--omit", name)]
    inputs = os.path.join(directory, "floats.gguf")
    quant("dequantize", model, "-o", inputs, *omit)
    by_name = {tensor.name: tensor for tensor in GGUFReader(inputs).tensors}
    for encoding in ENCODINGS:
        path = os.path.join(directory, f"{encoding}.gguf")
        quant("quantize", inputs, "-o", path, "--scheme", encoding.lower())
        for tensor in GGUFReader(path).tensors:
            if tensor.tensor_type.name != encoding:
                continue
            expected = quantize(by_name[tensor.name].data, tensor.tensor_type)
            assert np.array_equal(raw(tensor), expected.reshape(-1)), (encoding, tensor.name)
            compared += 1
    assert compared > 0
    return compared


def main(model):
    with tempfile.TemporaryDirectory() as directory:
        record, back = os.path.join(directory, "a.quant"), os.path.join(directory, "b.gguf")
        quant("convert", model, "-o", record)
        quant("convert", record, "-o", back)
        same = compare_files(model, back)
        print(f"{same} tensors and all metadata came back through a record as they were")
        print(f"{compare_floats(model, directory)} tensors have the floats of the package")
        print(f"{compare_encodings(model, directory)} quantized tensors have its blocks")


if __name__ == "__main__":
    QUANT = os.path.abspath(sys.argv[1])
    main(sys.argv[2])

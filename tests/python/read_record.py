"""Reads a record as docs/record-format.md describes it, with numpy and the standard library.

    read_record.py RECORD                 lists its content
    read_record.py RECORD EXPECTED.json   compares its content bit by bit
"""

import json
import re
import struct
import sys
import zlib

import numpy as np

MAGIC = b"\x89QNT\r\n\x1a\n"
ALIAS = "quant.alias."
PRELUDE = 32
ALIGNMENT = 64
FLOAT32, QUANTIZED, FLOAT16, BFLOAT16 = 0, 1, 2, 3
AFFINE, MINIMUM = 1, 3
PER_TENSOR, PER_CHANNEL, PER_BLOCK = 0, 1, 2


class RecordError(Exception):
    """The bytes are not a valid record."""


def check(condition, message):
    if not condition:
        raise RecordError(message)


def align(position):
    return -(-position // ALIGNMENT) * ALIGNMENT


class Cursor:
    """Decodes the numbers, strings and lists of a header."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, count):
        check(count <= len(self.data) - self.at, "the header is too short")
        self.at += count
        return self.data[self.at - count : self.at]

    def numbers(self, form):
        return struct.unpack("<" + form, self.take(struct.calcsize("<" + form)))

    def count(self):
        return self.numbers("Q")[0]

    def string(self):
        return self.take(self.count()).decode("utf-8")

    def section(self):
        return self.numbers("QQI")

    def tensor(self):
        name = self.string()
        shape = self.numbers("%dQ" % self.count())
        encoding = self.numbers("5BiI")
        return name, shape, encoding, [self.section() for _ in range(3)]


class Sections:
    """Returns the sections of a file, which lie end to end."""

    def __init__(self, data, start):
        self.data, self.at = data, start

    def take(self, name, section):
        offset, length, crc = section
        check(offset == self.at, f"{name}: a section does not start where the previous one ends")
        self.at = align(offset + length)
        check(self.at <= len(self.data), f"{name}: a section extends past the end")
        payload = self.data[offset : offset + length]
        check(zlib.crc32(payload) == crc, f"{name}: damaged")
        check(not any(self.data[offset + length : self.at]), f"{name}: padding is not zero")
        return payload


def unpack(payload, shape, bits, version):
    """The codes as integers: rows start on a byte, with element 0 in the low bits."""
    width = bits if version > 1 else 8 if bits > 4 else 4 if bits > 2 else 2
    row = shape[-1] if shape else 1
    rows = int(np.prod(shape[:-1], dtype=np.int64)) if shape else 1
    data = np.frombuffer(payload, np.uint8).reshape(rows, -(-row * width // 8))
    fields = np.unpackbits(data, axis=1, bitorder="little")
    check(not fields[:, row * width :].any(), "the padding of a row is not zero")
    fields = fields[:, : row * width].reshape(rows, row, width)
    weights = 1 << np.arange(width, dtype=np.int32)
    weights[-1] = -weights[-1]
    return (fields * weights).sum(axis=2, dtype=np.int32).reshape(shape)


def bfloat16(payload):
    return (np.frombuffer(payload, "<u2").astype(np.uint32) << 16).view(np.float32)


def numbers(payload, kind):
    """Scales or minimums as float32: the number of their type is that in the header."""
    if kind == 2:
        return bfloat16(payload)
    return np.frombuffer(payload, "<f2" if kind == 1 else "<f4").astype(np.float32)


def spread(parameters, shape, granularity, axis, block):
    """Broadcasts scales or zero points to the shape of the tensor."""
    if granularity == PER_TENSOR or not shape:
        return parameters.reshape((1,) * len(shape))
    if granularity == PER_CHANNEL:
        at = axis % len(shape)
        return parameters.reshape([-1 if i == at else 1 for i in range(len(shape))])
    per_row = -(-shape[-1] // block)
    rows = parameters.reshape(*shape[:-1], per_row)
    return np.repeat(rows, block, axis=-1)[..., : shape[-1]]


def dequantize(shape, encoding, payloads, version):
    _, bits, mapping, granularity, kind, axis, block = encoding
    codes = unpack(payloads[0], shape, bits, version)
    scales = spread(numbers(payloads[1], kind), shape, granularity, axis, block)
    if mapping == MINIMUM:
        minimums = spread(numbers(payloads[2], kind), shape, granularity, axis, block)
        return (codes + (1 << (bits - 1))).astype(np.float32) * scales + minimums
    if mapping == AFFINE:
        zero_points = np.frombuffer(payloads[2], np.int8).astype(np.int32)
        codes = codes - spread(zero_points, shape, granularity, axis, block)
    return codes.astype(np.float32) * scales


def values(shape, encoding, payloads, version):
    kind = encoding[0]
    if kind == FLOAT32:
        return np.frombuffer(payloads[0], "<f4").reshape(shape)
    if kind == QUANTIZED:
        return dequantize(shape, encoding, payloads, version)
    check(version > 1 and kind in (FLOAT16, BFLOAT16), "unknown kind of tensor")
    if kind == FLOAT16:
        return np.frombuffer(payloads[0], "<f2").astype(np.float32).reshape(shape)
    return bfloat16(payloads[0]).reshape(shape)


def header(data):
    """Checks the prelude; returns the version, the header and the start of the sections."""
    check(data[:8] == MAGIC, "not a record")
    check(len(data) >= PRELUDE, "truncated")
    version, crc, header_len, file_len = struct.unpack("<IIQQ", data[8:PRELUDE])
    check(version in (1, 2), f"unsupported version {version}")
    check(file_len == len(data), f"the file has {len(data)} bytes, expected {file_len}")
    end = PRELUDE + header_len
    check(zlib.crc32(data[16:end], zlib.crc32(data[:12])) == crc, "the header is damaged")
    check(not any(data[end : align(end)]), "padding is not zero")
    return version, Cursor(data[PRELUDE:end]), align(end)


def read(path):
    """Returns metadata, tensors as float32 arrays by name, and states as (kind, bytes) by path."""
    with open(path, "rb") as file:
        data = file.read()
    version, cursor, start = header(data)
    metadata = {}
    for _ in range(cursor.count()):
        key = cursor.string()
        metadata[key] = cursor.string()
    tensors = [cursor.tensor() for _ in range(cursor.count())]
    states = [(cursor.string(), cursor.string(), cursor.section()) for _ in range(cursor.count())]
    check(cursor.at == len(cursor.data), "the header is too long")

    sections = Sections(data, start)
    arrays = {}
    for name, shape, encoding, parts in tensors:
        payloads = [sections.take(name, part) for part in parts]
        arrays[name] = values(shape, encoding, payloads, version)
    aliases = {}
    payloads = {name: (kind, sections.take(name, part)) for name, kind, part in states}
    if version >= 2:
        for key in [key for key in metadata if key.startswith(ALIAS)]:
            name, of = key[len(ALIAS) :], metadata.pop(key)
            check(of in arrays and name not in arrays, f"{name}: not another name of a tensor")
            aliases[name] = arrays[of]
    metadata = users(metadata)
    check(sections.at == len(data), "the sections do not fill the file")
    return metadata, arrays | aliases, payloads


def users(metadata):
    """The keys of the user, without what stands before those that look like an alias."""
    if any(key.startswith(ALIAS) for key in metadata):
        return metadata  # A file that is older than aliases.
    escaped = re.compile(r"foreign\.(?=(foreign\.)*" + re.escape(ALIAS) + ")")
    return {key.removeprefix("foreign.") if escaped.match(key) else key: value
            for key, value in metadata.items()}


def compare(record, path):
    with open(path, encoding="utf-8") as file:
        expected = json.load(file)
    metadata, arrays, states = record
    assert metadata == expected["metadata"], metadata
    found = {name: {"kind": kind, "data": list(data)} for name, (kind, data) in states.items()}
    assert found == expected["states"], found
    assert list(arrays) and set(arrays) == set(expected["tensors"]), list(arrays)
    for name, tensor in expected["tensors"].items():
        array = np.ascontiguousarray(arrays[name], np.float32)
        assert list(arrays[name].shape) == tensor["shape"], name
        bits = array.reshape(-1).view(np.uint32)
        assert np.array_equal(bits, np.array(tensor["bits"], np.uint32)), name
    print(f"{len(arrays)} tensors equal")


def main():
    record = read(sys.argv[1])
    if len(sys.argv) > 2:
        compare(record, sys.argv[2])
        return
    metadata, arrays, states = record
    for key, value in metadata.items():
        print(f"{key} = {value}")
    for name, array in arrays.items():
        print(f"{name}: {list(array.shape)}")
    for name, (kind, data) in states.items():
        print(f"{name}: {kind}, {len(data)} bytes")


if __name__ == "__main__":
    try:
        main()
    except RecordError as error:
        sys.exit(f"{sys.argv[1]}: {error}")

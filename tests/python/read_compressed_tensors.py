#!/usr/bin/env python3
"""Reads model directories that quant writes, with the packing code of PyPI's compressed-tensors.

    python3 tests/python/read_compressed_tensors.py path/to/quant [path/to/compressed_tensors]

quantizes a small model in bfloat16 with several schemes, unpacks every quantized tensor with the
package's own `pack_quantized/helpers.py`, and compares its values with those that quant writes for
the same scheme as a record. The package is not imported as a whole, because it needs a newer torch
than Debian has; the second argument is its folder, which `pip download --no-deps
compressed-tensors` and `unzip` make. The package's own reader checks the configuration, too, where
torch is new enough.
"""
import importlib.util
import json
import os
import struct
import subprocess
import sys
import tempfile

try:
    import numpy as np
    import torch
except ImportError as error:
    print(f'SKIPPED: read_compressed_tensors.py: {error}')
    sys.exit(0)

TORCH = {'F32': torch.float32, 'F16': torch.float16, 'BF16': torch.bfloat16, 'I8': torch.int8,
         'I32': torch.int32, 'I64': torch.int64}


def load(path):
    with open(path, 'rb') as file:
        (length,) = struct.unpack('<Q', file.read(8))
        header = json.loads(file.read(length))
        data = file.read()
    header.pop('__metadata__', None)
    return {name: torch.frombuffer(bytearray(data[slice(*it['data_offsets'])]), dtype=TORCH[it['dtype']])
            .reshape(it['shape']) for name, it in header.items()}


def write_model(folder):
    os.makedirs(folder)
    generator = np.random.default_rng(11)
    shapes = {'model.embed_tokens.weight': (32, 64), 'model.norm.weight': (64,)}
    for layer in range(2):
        shapes[f'model.layers.{layer}.self_attn.q_proj.weight'] = (64, 64)
        shapes[f'model.layers.{layer}.mlp.up_proj.weight'] = (50, 64)
    header, data = {}, b''
    for name, shape in shapes.items():
        bits = generator.normal(size=shape).astype(np.float32).view(np.uint32) >> 16
        raw = bits.astype(np.uint16).tobytes()
        header[name] = {'dtype': 'BF16', 'shape': shape, 'data_offsets': [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    text += b' ' * (-len(text) % 8)
    with open(os.path.join(folder, 'model.safetensors'), 'wb') as file:
        file.write(struct.pack('<Q', len(text)) + text + data)
    with open(os.path.join(folder, 'config.json'), 'w', encoding='utf-8') as file:
        file.write('{\n  "model_type": "llama"\n}\n')


def decompressed(tensors, name, scheme, helpers):
    """The weight, as the package computes it: `(code - zero point) * scale`."""
    weights = scheme['weights']
    scale, zero = tensors[f'{name}_scale'].float(), tensors.get(f'{name}_zero_point')
    if f'{name}_packed' in tensors:
        shape = tensors[f'{name}_shape'].tolist()
        codes = helpers.unpack_from_int32(tensors[f'{name}_packed'], weights['num_bits'], shape)
        again = helpers.pack_to_int32(codes, weights['num_bits'])
        assert torch.equal(again, tensors[f'{name}_packed']), name
        if zero is not None:
            of_zero = (*shape[:-1], scale.shape[-1])
            zero = helpers.unpack_from_int32(zero, weights['num_bits'], of_zero, packed_dim=0)
            again = helpers.pack_to_int32(zero, weights['num_bits'], packed_dim=0)
            assert torch.equal(again, tensors[f'{name}_zero_point']), name
    else:
        codes = tensors[name]
    spread = lambda it: it.repeat_interleave(weights['group_size'], dim=1) if weights['group_size'] else it
    offset = 0 if zero is None else spread(zero).float()
    return (codes.float() - offset) * spread(scale)


def check(quant, scheme, activations, helpers, scratch):
    run = lambda *arguments: subprocess.run([quant, *arguments], check=True, capture_output=True)
    model, folder = os.path.join(scratch, 'model'), os.path.join(scratch, f'{scheme}-{activations}'.replace(':', '-').replace('=', '-'))
    run('quantize', model, '-o', folder + '-d', '--scheme', scheme, '--activations', activations)
    run('quantize', model, '-o', folder + '.quant', '--scheme', scheme)
    run('dequantize', folder + '.quant', '-o', folder + '.safetensors')
    expected = load(folder + '.safetensors')
    tensors = load(os.path.join(folder + '-d', 'model.safetensors'))
    with open(os.path.join(folder + '-d', 'config.json'), encoding='utf-8') as file:
        config = json.load(file)['quantization_config']
    (group,) = config['config_groups'].values()
    names = [name for name in expected if '_proj' in name]
    for name in names:
        assert torch.equal(decompressed(tensors, name, group, helpers), expected[name]), name
    return config, len(names)


def validate(config, package):
    """The configuration by the package's own types."""
    try:
        sys.path.insert(0, os.path.dirname(package))
        from compressed_tensors.quantization import QuantizationConfig
    except Exception as error:  # An older torch lacks attributes.
        print(f'SKIPPED: the types of the configuration: {error}')
        return
    QuantizationConfig.model_validate(config)


def main(quant, package):
    path = os.path.join(package, 'compressors', 'pack_quantized', 'helpers.py')
    if not os.path.exists(path):
        print(f'SKIPPED: read_compressed_tensors.py: there is no {path}')
        return
    spec = importlib.util.spec_from_file_location('helpers', path)
    helpers = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(helpers)
    compared = 0
    with tempfile.TemporaryDirectory() as scratch:
        write_model(os.path.join(scratch, 'model'))
        for scheme, activations in [
            ('per-channel-symmetric-int8', 'float'),
            ('per-channel-symmetric-int8', 'dynamic'),
            ('per-channel-affine-int8', 'dynamic'),
            ('per-tensor-symmetric-int8', 'dynamic'),
            ('per-channel-affine-int8', 'float'),
            ('per-block-symmetric-int4:len=32', 'float'),
            ('per-block-affine-int4:len=16', 'float'),
            ('per-block-affine-int4:len=32:scale=f16', 'float'),
            ('per-channel-affine-int3', 'float'),
            ('per-block-symmetric-int5:len=32', 'float'),
            ('per-block-affine-int7:len=32', 'float'),
        ]:
            config, count = check(quant, scheme, activations, helpers, scratch)
            compared += count
        validate(config, package)
    print(f'{compared} tensors have the values that compressed-tensors computes')


if __name__ == '__main__':
    main(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else 'compressed_tensors')

#!/usr/bin/env python3
"""Writes `tests/golden/prequantized`: small checkpoints as other programs quantize them.

Each folder has `model.safetensors`, `config.json` and `expected.safetensors` with the values of each
quantized tensor in float. Codes, scales and zero points are drawn first. The expected values are
computed from them directly, and the packed tensors by the loops of each program's own packing code,
so that both do not share a line. Small floats are those of the package `ml_dtypes`.

    pip install numpy ml_dtypes
    python3 tests/python/prequantized.py [FOLDER]
"""
import json
import os
import struct
import sys

import ml_dtypes
import numpy as np

random = np.random.default_rng(7)

DTYPES = {
    'float32': 'F32', 'float16': 'F16', 'bfloat16': 'BF16', 'int8': 'I8', 'uint8': 'U8',
    'int32': 'I32', 'uint32': 'U32', 'int64': 'I64', 'float8_e4m3fn': 'F8_E4M3',
    'float8_e5m2': 'F8_E5M2', 'float8_e4m3fnuz': 'F8_E4M3FNUZ', 'float8_e5m2fnuz': 'F8_E5M2FNUZ',
}


def save(path, tensors):
    header, at = {}, 0
    for name, array in tensors.items():
        header[name] = {'dtype': DTYPES[array.dtype.name], 'shape': list(array.shape),
                        'data_offsets': [at, at + array.nbytes]}
        at += array.nbytes
    text = json.dumps(header).encode()
    text += b' ' * (-len(text) % 8)
    with open(path, 'wb') as file:
        file.write(struct.pack('<Q', len(text)) + text)
        for array in tensors.values():
            file.write(np.ascontiguousarray(array).tobytes())


def scales(shape, dtype):
    return (0.001 + random.random(shape) / 50).astype(dtype)


def codes(bits, shape):
    return random.integers(0, 2**bits, shape)


def bias(out):
    return random.normal(size=out).astype(np.float16)


# --- GPTQ -----------------------------------------------------------------------------------------

def gptq_rows(values, bits):
    """Packs along axis 0, as AutoGPTQ does: words of whole codes, or 32 codes of 3 bits in 3 words."""
    values = values.astype(np.uint32)
    packed = np.zeros((values.shape[0] * bits // 32, values.shape[1]), np.uint32)
    i = row = 0
    while row < len(packed):
        if bits != 3:
            for j in range(32 // bits):
                packed[row] |= values[i + j] << np.uint32(bits * j)
            i, row = i + 32 // bits, row + 1
            continue
        for j in range(10):
            packed[row] |= values[i + j] << np.uint32(3 * j)
        i += 10
        packed[row] |= values[i] << np.uint32(30)
        row += 1
        packed[row] |= (values[i] >> np.uint32(2)) & np.uint32(1)
        i += 1
        for j in range(10):
            packed[row] |= values[i + j] << np.uint32(3 * j + 1)
        i += 10
        packed[row] |= values[i] << np.uint32(31)
        row += 1
        packed[row] |= (values[i] >> np.uint32(1)) & np.uint32(3)
        i += 1
        for j in range(10):
            packed[row] |= values[i + j] << np.uint32(3 * j + 2)
        i, row = i + 10, row + 1
    return packed.view(np.int32)


def gptq(name, bits, inputs, outputs, group, version, order=None, symmetric=False):
    groups = -(-inputs // group)
    index = np.arange(inputs) // group
    if order == 'act':
        index = random.permutation(index)
    q = codes(bits, (inputs, outputs))
    # Version 1 stores the zero point minus 1: 1 to 2^bits.
    zeros = codes(bits, (groups, outputs)) + (1 if version == 1 else 0)
    if symmetric:
        zeros[:] = 2**(bits - 1)
    scale = scales((groups, outputs), np.float16)
    expected = (q - zeros[index]).astype(np.float32) * scale[index].astype(np.float32)
    tensors = {
        f'{name}.qweight': gptq_rows(q, bits),
        f'{name}.qzeros': gptq_rows((zeros - (1 if version == 1 else 0)).T, bits).T,
        f'{name}.scales': scale,
        f'{name}.bias': bias(outputs),
    }
    if order != 'none':
        tensors[f'{name}.g_idx'] = index.astype(np.int32)
    return tensors, {f'{name}.weight': expected.T}


# --- AWQ ------------------------------------------------------------------------------------------

def awq_columns(values):
    """Packs eight columns into a word, in the order of AutoAWQ's GEMM layout."""
    packed = np.zeros((values.shape[0], values.shape[1] // 8), np.uint32)
    for column in range(packed.shape[1]):
        for i, at in enumerate([0, 2, 4, 6, 1, 3, 5, 7]):
            packed[:, column] |= values[:, 8 * column + at].astype(np.uint32) << np.uint32(4 * i)
    return packed.view(np.int32)


def awq(name, inputs, outputs, group):
    q, zeros = codes(4, (inputs, outputs)), codes(4, (inputs // group, outputs))
    scale = scales(zeros.shape, np.float16)
    spread = lambda it: np.repeat(it, group, axis=0)
    expected = (q - spread(zeros)).astype(np.float32) * spread(scale).astype(np.float32)
    return {
        f'{name}.qweight': awq_columns(q),
        f'{name}.qzeros': awq_columns(zeros),
        f'{name}.scales': scale,
        f'{name}.bias': bias(outputs),
    }, {f'{name}.weight': expected.T}


# --- compressed-tensors ---------------------------------------------------------------------------

def dense_rows(values, bits):
    """Packs rows densely: bit `i * bits + j` of a row is bit `j` of its code `i`."""
    rows, columns = values.shape
    bit = (values[:, :, None] >> np.arange(bits)) & 1
    bit = bit.reshape(rows, columns * bits)
    bit = np.pad(bit, ((0, 0), (0, -bit.shape[1] % 32))).reshape(rows, -1, 32).astype(np.uint64)
    return (bit << np.arange(32, dtype=np.uint64)).sum(axis=2).astype(np.uint32).view(np.int32)


def whole_rows(values, bits):
    """As older releases: as many codes in a word as fit."""
    per_word = 32 // bits
    rows, columns = values.shape
    values = np.pad(values, ((0, 0), (0, -columns % per_word))).reshape(rows, -1, per_word)
    shifts = (np.arange(per_word) * bits).astype(np.uint64)
    return (values.astype(np.uint64) << shifts).sum(axis=2).astype(np.uint32).view(np.int32)


def packed(name, bits, out, inputs, group, pack=dense_rows, affine=False, index=None):
    groups = -(-inputs // group)
    of = np.arange(inputs) // group if index is None else index
    q = codes(bits, (out, inputs)) - 2**(bits - 1)
    zeros = codes(bits, (out, groups)) - 2**(bits - 1) if affine else np.zeros((out, groups), int)
    scale = scales((out, groups), ml_dtypes.bfloat16)
    expected = (q - zeros[:, of]).astype(np.float32) * scale[:, of].astype(np.float32)
    tensors = {
        f'{name}.weight_packed': pack(q + 2**(bits - 1), bits),
        f'{name}.weight_scale': scale,
        f'{name}.weight_shape': np.array([out, inputs], np.int64),
    }
    if affine:
        tensors[f'{name}.weight_zero_point'] = dense_rows((zeros + 2**(bits - 1)).T, bits).T
    if index is not None:
        tensors[f'{name}.weight_g_idx'] = index.astype(np.int32)
    return tensors, {f'{name}.weight': expected}


def blocks(scale, shape, block):
    """A scale for each element."""
    for axis in range(-2, 0):
        scale = np.repeat(scale, block[axis], axis=axis)
        scale = np.take(scale, np.arange(shape[axis]), axis=axis)
    return scale.astype(np.float32)


def int8(name, shape, scale_shape, block, affine=False):
    q = random.integers(-128, 128, shape).astype(np.int8)
    scale = scales(scale_shape, ml_dtypes.bfloat16)
    zeros = random.integers(-128, 128, scale_shape).astype(np.int8)
    zero = blocks(zeros, shape, block) if affine else 0
    expected = (q.astype(np.float32) - zero) * blocks(scale, shape, block)
    tensors = {f'{name}.weight': q, f'{name}.weight_scale': scale}
    if affine:
        tensors[f'{name}.weight_zero_point'] = zeros
    return tensors, {f'{name}.weight': expected.astype(np.float32)}


# --- small floats ---------------------------------------------------------------------------------

def float8(name, dtype, shape, scale_shape, block=None, suffix='_scale', scale_dtype=np.float32):
    q = random.integers(0, 256, shape).astype(np.uint8).view(dtype)
    q = np.where(np.isfinite(q.astype(np.float32)), q, q.dtype.type(1))
    scale = scales(scale_shape, scale_dtype)
    if scale_dtype == np.uint8:
        scale = random.integers(100, 140, scale_shape).astype(np.uint8)
    factor = scale.view(ml_dtypes.float8_e8m0fnu) if scale_dtype == np.uint8 else scale
    spread = blocks(factor, shape, block) if block else factor.astype(np.float32)
    return {name: q, name + suffix: scale}, {name: q.astype(np.float32) * spread}


def float4(q):
    return q.astype(np.uint8).view(ml_dtypes.float4_e2m1fn).astype(np.float32)


def pairs(q):
    """Two codes in a byte, the first in the low bits."""
    return (q[..., 0::2] | q[..., 1::2] << 4).astype(np.uint8)


def gpt_oss(name, experts, out, groups):
    q = codes(4, (experts, out, groups * 32))
    scale = random.integers(100, 140, (experts, out, groups)).astype(np.uint8)
    factor = np.repeat(scale.view(ml_dtypes.float8_e8m0fnu).astype(np.float32), 32, axis=2)
    return {
        f'{name}_blocks': pairs(q).reshape(experts, out, groups, 16),
        f'{name}_scales': scale,
    }, {name: (float4(q) * factor).transpose(0, 2, 1)}


def nvfp4(name, out, inputs, compressed):
    q = codes(4, (out, inputs))
    scale = random.uniform(0.1, 400, (out, inputs // 16)).astype(ml_dtypes.float8_e4m3fn)
    of_tensor = np.float32(0.37)
    factor = scale.astype(np.float32)
    factor = factor / of_tensor if compressed else factor * of_tensor
    expected = float4(q) * np.repeat(factor, 16, axis=1)
    if compressed:
        return {
            f'{name}.weight_packed': pairs(q), f'{name}.weight_scale': scale,
            f'{name}.weight_global_scale': np.array([of_tensor]),
        }, {f'{name}.weight': expected}
    return {
        f'{name}.weight': pairs(q), f'{name}.weight_scale': scale,
        f'{name}.weight_scale_2': np.array(of_tensor),
    }, {f'{name}.weight': expected}


def mxfp4(name, out, inputs):
    q = codes(4, (out, inputs))
    scale = random.integers(100, 140, (out, inputs // 32)).astype(np.uint8)
    factor = np.repeat(scale.view(ml_dtypes.float8_e8m0fnu).astype(np.float32), 32, axis=1)
    return {
        f'{name}.weight_packed': pairs(q), f'{name}.weight_scale': scale,
    }, {f'{name}.weight': float4(q) * factor}


# --- MLX ------------------------------------------------------------------------------------------

def mlx(name, bits, out, groups, group):
    q = codes(bits, (out, groups * group))
    scale = scales((out, groups), np.float16)
    offset = (random.normal(size=(out, groups)) / 10).astype(np.float16)
    spread = lambda it: np.repeat(it.astype(np.float32), group, axis=1)
    return {
        f'{name}.weight': dense_rows(q, bits).view(np.uint32), f'{name}.scales': scale,
        f'{name}.biases': offset,
    }, {f'{name}.weight': q.astype(np.float32) * spread(scale) + spread(offset)}


# --- bitsandbytes ---------------------------------------------------------------------------------

# The tables of its `get_4bit_type`.
NF4 = [-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635,
       -0.18477343022823334, -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725,
       0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941,
       0.7229568362236023, 1.0]
FP4 = [0, 0.0625, 8.0, 12.0, 4.0, 6.0, 2.0, 3.0, -0.0, -0.0625, -8.0, -12.0, -4.0, -6.0, -2.0, -3.0]


def four_bits(name, kind, shape, block, nested=False):
    table = np.array(NF4 if kind == 'nf4' else FP4, np.float32)
    table = table / np.abs(table).max()
    count = int(np.prod(shape))
    q = codes(4, count)
    blocks = -(-count // block)
    absmax = scales(blocks, np.float32)
    state = {'quant_type': kind, 'blocksize': block, 'dtype': 'bfloat16', 'shape': list(shape)}
    tensors = {}
    if nested:
        absmax8 = codes(8, blocks).astype(np.uint8)
        nested_map = np.linspace(-1, 1, 256).astype(np.float32)
        nested_absmax = scales(-(-blocks // 256), np.float32)
        offset = 0.0123456789
        state |= {'nested_blocksize': 256, 'nested_dtype': 'float32', 'nested_offset': offset}
        absmax = nested_map[absmax8] * np.repeat(nested_absmax, 256)[:blocks] + np.float32(offset)
        tensors = {f'{name}.weight.nested_absmax': nested_absmax,
                   f'{name}.weight.nested_quant_map': nested_map}
    values = table[q] * np.repeat(absmax, block)[:count]
    padded = np.append(q, 0)[:count + count % 2].astype(np.uint8)
    return {
        f'{name}.weight': (padded[::2] << 4 | padded[1::2]).reshape(-1, 1),
        f'{name}.weight.absmax': absmax8 if nested else absmax,
        f'{name}.weight.quant_map': table,
        f'{name}.weight.quant_state.bitsandbytes__{kind}':
            np.frombuffer(json.dumps(state).encode(), np.uint8),
    } | tensors, {f'{name}.weight': values.reshape(shape)}


def llm_int8(name, out, inputs):
    q = random.integers(-128, 128, (out, inputs)).astype(np.int8)
    absmax = scales(out, np.float32)
    values = q.astype(np.float32) * absmax[:, None] * np.float32(7.874015718698502e-3)
    return {
        f'{name}.weight': q, f'{name}.SCB': absmax,
        f'{name}.weight_format': np.array(0, np.uint8),
    }, {f'{name}.weight': values}


def write(root, folder, config, *layers, beside=()):
    path = os.path.join(root, folder)
    os.makedirs(path, exist_ok=True)
    tensors, expected = {}, {}
    for stored, values in layers:
        tensors |= stored
        expected |= {name: array.astype(np.float32) for name, array in values.items()}
    tensors |= {'norm.weight': random.normal(size=8).astype(np.float16)}
    save(os.path.join(path, 'model.safetensors'), tensors)
    save(os.path.join(path, 'expected.safetensors'), expected)
    name = 'quantize_config.json' if folder == 'gptq' else 'config.json'
    with open(os.path.join(path, name), 'w', encoding='utf-8') as file:
        json.dump(config, file, indent=2)
        file.write('\n')


def main(root):
    e4m3, e5m2 = ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2
    write(root, 'gptq', {'bits': 4, 'group_size': 32, 'desc_act': True},
          *(gptq(f'b{bits}', bits, 64, 32, 32, 1) for bits in (2, 3, 4, 8)),
          gptq('act_order', 4, 96, 8, 32, 1, 'act'), gptq('no_index', 4, 64, 8, 32, 1, 'none'))
    write(root, 'gptq-v2', {'quantization_config': {
        'quant_method': 'gptq', 'bits': 4, 'group_size': 32, 'checkpoint_format': 'gptq_v2'}},
          gptq('b4', 4, 64, 8, 32, 2), gptq('act_order', 3, 96, 32, 32, 2, 'act'),
          gptq('short', 4, 80, 8, 32, 2))
    write(root, 'awq', {'quantization_config': {
        'quant_method': 'awq', 'bits': 4, 'group_size': 32, 'version': 'gemm', 'zero_point': True}},
          awq('a', 64, 16, 32), awq('b', 32, 8, 32))
    group = lambda bits, length: {'weights': {'num_bits': bits, 'group_size': length}}
    write(root, 'compressed-tensors', {'quantization_config': {
        'quant_method': 'compressed-tensors', 'version': '0.9.4', 'config_groups': {
            'group_0': group(4, 32), 'group_1': group(3, 32), 'group_2': group(8, -1),
            'group_3': group(5, 32)}}},
          packed('int4', 4, 10, 64, 32), packed('affine4', 4, 10, 64, 32, affine=True),
          packed('dense3', 3, 7, 64, 32, affine=True), packed('whole3', 3, 7, 64, 32, whole_rows),
          packed('channel8', 8, 6, 36, 36), packed('dense5', 5, 4, 44, 32),
          packed('act_order', 4, 6, 64, 32, index=random.permutation(np.arange(64) // 32)),
          int8('w8', (6, 20), (6, 1), (1, 20)), int8('w8_affine', (6, 20), (6, 1), (1, 20), True),
          int8('w8_tensor', (6, 20), (1, 1), (6, 20)),
          float8('f8.weight', e4m3, (6, 20), (6, 1), (1, 20), scale_dtype=ml_dtypes.bfloat16))
    write(root, 'fp8', {'quantization_config': {
        'quant_method': 'fp8', 'weight_block_size': [16, 16]}},
          float8('a.weight', e4m3, (40, 50), (3, 4), (16, 16), '_scale_inv'),
          float8('experts.up', e4m3, (2, 20, 18), (2, 2, 2), (16, 16), '_scale_inv'),
          float8('tensor.weight', e4m3, (6, 20), ()), float8('wide.weight', e5m2, (6, 20), (1,)),
          float8('zeroless.weight', ml_dtypes.float8_e4m3fnuz, (6, 20), (6, 1), (1, 20)),
          float8('mx.weight', e4m3, (6, 64), (6, 2), (1, 32), scale_dtype=np.uint8))
    write(root, 'mxfp4', {'quantization_config': {'quant_method': 'mxfp4'}},
          gpt_oss('experts.gate_up_proj', 2, 6, 2), mxfp4('packed', 6, 64))
    write(root, 'nvfp4', {'quantization_config': {'quant_method': 'modelopt'}},
          nvfp4('a', 6, 32, True), nvfp4('b', 6, 32, False))
    write(root, 'mlx', {'quantization': {'group_size': 32, 'bits': 4}},
          mlx('a', 4, 6, 2, 32), mlx('b', 4, 3, 1, 32))
    write(root, 'gptq-sym', {'quantization_config': {
        'quant_method': 'gptq', 'bits': 4, 'group_size': 32, 'desc_act': True, 'sym': True}},
          gptq('b4', 4, 64, 16, 32, 1, symmetric=True),
          gptq('channel', 4, 64, 16, 64, 1, symmetric=True),
          gptq('b8', 8, 64, 8, 32, 1, symmetric=True),
          gptq('short', 4, 72, 8, 32, 1, symmetric=True),
          gptq('act_order', 4, 96, 8, 32, 1, 'act', symmetric=True))
    write(root, 'bitsandbytes', {'quantization_config': {
        'quant_method': 'bitsandbytes', 'bnb_4bit_quant_type': 'nf4'}},
          four_bits('nf4', 'nf4', (6, 64), 64), four_bits('nested', 'nf4', (20, 1000), 64, True),
          four_bits('fp4', 'fp4', (3, 31), 64), llm_int8('int8', 6, 20))


if __name__ == '__main__':
    here = os.path.dirname(os.path.abspath(__file__))
    main(sys.argv[1] if len(sys.argv) > 1 else os.path.join(here, '..', 'golden', 'prequantized'))

#!/usr/bin/env python3
"""Loads model directories that quant writes with transformers, as an engine would.

    python3 tests/python/load_in_transformers.py path/to/quant

makes a small Llama in bfloat16 in shards, quantizes the directory with several schemes, and loads each
result by `from_pretrained`. With float inputs, the logits must be those of the same directory after
`quant dequantize`, in every bit; with quantized inputs, near them. It needs torch, transformers and
compressed-tensors, which are gigabytes, so it is run by hand: 0.20.1 of compressed-tensors and 5.24.0
of transformers.
"""
import math
import os
import subprocess
import sys
import tempfile

try:
    import torch
    from compressed_tensors.compressors.pack_quantized.base import PackedQuantizationCompressor
    from transformers import LlamaConfig, LlamaForCausalLM
    from transformers.utils import logging
except ImportError as error:
    print(f'SKIPPED: load_in_transformers.py: {error}')
    sys.exit(0)

SCHEMES = [
    ('per-channel-symmetric-int8', 'float'),
    ('per-channel-symmetric-int8', 'dynamic'),
    ('per-channel-affine-int8', 'dynamic'),
    ('per-block-symmetric-int8:len=64', 'float'),
    ('per-block-symmetric-int4:len=32', 'float'),
    ('per-block-symmetric-int4:len=128', 'float'),
    ('per-block-affine-int4:len=32', 'float'),
]


def expect_packed_zero_points():
    """Loading makes tensors without memory first. For these, 0.20.1 of the package forgets that zero
    points are packed, which it does when it writes; so it refuses the shape of its own files."""
    compress = PackedQuantizationCompressor.compress.__func__

    def with_zero_points(cls, state, scheme):
        made = compress(cls, state, scheme)
        zero = made.get('weight_zero_point')
        if zero is not None and zero.is_meta and zero.dtype != torch.int32:
            rows = math.ceil(zero.shape[0] * scheme.weights.num_bits / 32)
            shape = (rows, *zero.shape[1:])
            made['weight_zero_point'] = torch.empty(shape, dtype=torch.int32, device='meta')
        return made

    PackedQuantizationCompressor.compress = classmethod(with_zero_points)


def logits(folder, tokens):
    model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.no_grad():
        return model(tokens).logits


def check(quant, source, scheme, activations, tokens, scratch):
    run = lambda *arguments: subprocess.run([quant, *arguments], check=True, capture_output=True)
    folder = os.path.join(scratch, f'{SCHEMES.index((scheme, activations))}')
    run('quantize', source, '-o', folder, '--scheme', scheme, '--activations', activations,
        '--max-shard-size', '200KB')
    run('dequantize', folder, '-o', folder + '-float')
    quantized, expected = logits(folder, tokens), logits(folder + '-float', tokens)
    if activations == 'float':
        assert torch.equal(quantized, expected), scheme
    similar = torch.nn.functional.cosine_similarity(quantized, expected, dim=-1).min().item()
    assert similar > 0.999, (scheme, similar)
    print(f'{scheme}, {activations} inputs: cosine {similar:.6f} to the dequantized directory')


def main(quant):
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    expect_packed_zero_points()
    torch.manual_seed(0)
    config = LlamaConfig(hidden_size=128, intermediate_size=256, num_hidden_layers=3, vocab_size=512,
                         num_attention_heads=4, num_key_value_heads=2, tie_word_embeddings=False)
    tokens = torch.randint(0, 512, (2, 17))
    with tempfile.TemporaryDirectory() as scratch:
        source = os.path.join(scratch, 'model')
        LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(source, max_shard_size='300KB')
        for scheme, activations in SCHEMES:
            check(quant, source, scheme, activations, tokens, scratch)
    print(f'transformers loads directories of {len(SCHEMES)} schemes')


if __name__ == '__main__':
    main(sys.argv[1])

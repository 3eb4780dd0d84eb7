#!/usr/bin/env python3
"""Compares `quant diff --logits` with numpy: `logits.py PATH_OF_QUANT`."""
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np


def figures(reference, other, tokens):
    """The figures of rule 14 of docs/numerics.md."""

    def log_softmax(logits):
        logits = logits.astype(np.float64)
        logits = logits - logits.max(axis=-1, keepdims=True)
        return logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))

    p, q = log_softmax(reference), log_softmax(other)
    kl = (np.exp(p) * (p - q)).sum(axis=-1)
    positions = np.arange(len(tokens))
    p_token, q_token = p[positions, tokens], q[positions, tokens]
    ratio = p_token - q_token
    return {
        'positions': len(tokens),
        'vocabulary': reference.shape[-1],
        'same_top': (reference.argmax(axis=-1) == other.argmax(axis=-1)).mean(),
        'kl': {
            'mean': kl.mean(),
            'error': kl.std(ddof=1) / np.sqrt(len(kl)),
            'median': np.median(kl),
            'percentile_99': np.quantile(kl, 0.99),
            'percentile_99_9': np.quantile(kl, 0.999),
            'max': kl.max(),
        },
        'text': {
            'reference_perplexity': np.exp(-p_token.mean()),
            'perplexity': np.exp(-q_token.mean()),
            'log_ratio': ratio.mean(),
            'log_ratio_error': ratio.std(ddof=1) / np.sqrt(len(ratio)),
            'rms_probability_change': np.sqrt(((np.exp(q_token) - np.exp(p_token)) ** 2).mean()),
        },
    }


def compare(found, expected, path=''):
    for key, value in expected.items():
        if isinstance(value, dict):
            compare(found[key], value, f'{path}{key}.')
        else:
            assert np.isclose(found[key], value, rtol=1e-9, atol=1e-12), (path + key, found[key], value)


def main():
    quant = Path(sys.argv[1]).resolve()
    random = np.random.default_rng(7)
    reference = (4 * random.standard_normal((1500, 320))).astype(np.float32)
    with tempfile.TemporaryDirectory() as directory:
        for dtype, noise in [(np.float32, 0.3), (np.float16, 0.05), (np.float64, 1.5)]:
            other = (reference + noise * random.standard_normal(reference.shape)).astype(dtype)
            tokens = random.integers(0, 320, 1500)
            for name, array in [('a', reference), ('b', other), ('tokens', tokens)]:
                np.save(f'{directory}/{name}.npy', array)
            command = [quant, 'diff', '--json', '--logits', 'a.npy', 'b.npy', '--tokens', 'tokens.npy']
            run = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)
            assert run.returncode == 1, run.stderr
            expected = figures(reference, other.astype(np.float32), tokens)
            compare(json.loads(run.stdout), expected)
    print('the figures of quant diff --logits are those of numpy')


if __name__ == '__main__':
    main()

"""The float model of a GGUF file of the Llama family, in numpy, as a reference.

    pip install gguf numpy tokenizers
    python3 benches/peers/smollm_reference.py MODEL.gguf > examples/smollm/tests/reference.json

Weights are dequantized by the package `gguf`; everything after is f64. For each prompt: its tokens, 64
tokens that follow (always the most likely), and every 96th logit after the prompt. With `--logits DIR`,
all logits of the first prompt's positions are written as `reference.npy`, to be compared by
`quant diff --logits`.
"""

import argparse
import json
import sys
from pathlib import Path

import gguf
import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

PROMPTS = [
    "The capital of France is",
    "Once upon a time, there was a little girl who",
    "In 1969, the first human beings",
    "def fibonacci(n):\n    ",
    "Water boils at",
    "The three primary colors are",
    "To make a cup of tea, you first",
    "Dear Sir or Madam,\n\nI am writing to",
    "The quick brown fox",
    "Quantization of a neural network means",
]
ANSWER = 64
EVERY = 96


class Model:
    def __init__(self, path):
        self.reader = gguf.GGUFReader(path)
        self.tensors = {
            tensor.name: gguf.quants.dequantize(tensor.data, tensor.tensor_type)
            .reshape(tensor.shape[::-1])
            .astype(np.float64)
            for tensor in self.reader.tensors
        }
        field = lambda key: self.reader.fields[f"llama.{key}"].contents()
        self.layers = field("block_count")
        self.heads = field("attention.head_count")
        self.key_heads = field("attention.head_count_kv")
        self.epsilon = field("attention.layer_norm_rms_epsilon")
        self.head = field("embedding_length") // self.heads
        pairs = np.arange(self.head // 2)
        self.frequencies = float(field("rope.freq_base")) ** (-2.0 * pairs / self.head)

    def norm(self, x, name):
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + self.epsilon) * self.tensors[name]

    def rope(self, x, start):
        """Turns neighbouring columns of each head: [tokens, heads, head]."""
        angles = np.arange(start, start + len(x))[:, None, None] * self.frequencies
        cos, sin = np.cos(angles), np.sin(angles)
        even, odd = x[..., 0::2], x[..., 1::2]
        turned = np.empty_like(x)
        turned[..., 0::2] = even * cos - odd * sin
        turned[..., 1::2] = even * sin + odd * cos
        return turned

    def forward(self, tokens, cache):
        """Logits of all tokens, which follow those in the cache."""
        start = len(cache[0][0]) if cache else 0
        x = self.tensors["token_embd.weight"][tokens]
        for layer in range(self.layers):
            weight = lambda name: self.tensors[f"blk.{layer}.{name}.weight"]
            h = self.norm(x, f"blk.{layer}.attn_norm.weight")
            q, k, v = (h @ weight(f"attn_{name}").T for name in "qkv")
            q = self.rope(q.reshape(len(x), self.heads, self.head), start)
            k = self.rope(k.reshape(len(x), self.key_heads, self.head), start)
            v = v.reshape(len(x), self.key_heads, self.head)
            if len(cache) <= layer:
                cache.append((k, v))
            else:
                cache[layer] = tuple(np.concatenate(both) for both in zip(cache[layer], (k, v)))
            x = x + self.attend(q, *cache[layer]) @ weight("attn_output").T
            h = self.norm(x, f"blk.{layer}.ffn_norm.weight")
            gate, up = h @ weight("ffn_gate").T, h @ weight("ffn_up").T
            x = x + (gate / (1 + np.exp(-gate)) * up) @ weight("ffn_down").T
        head = self.tensors.get("output.weight", self.tensors["token_embd.weight"])
        return self.norm(x, "output_norm.weight") @ head.T

    def attend(self, q, k, v):
        repeat = self.heads // self.key_heads
        k, v = np.repeat(k, repeat, 1), np.repeat(v, repeat, 1)
        scores = np.einsum("qhd,khd->hqk", q, k) / np.sqrt(self.head)
        before = len(k) - len(q)
        future = np.arange(len(k))[None, :] > np.arange(len(q))[:, None] + before
        scores = np.where(future, -np.inf, scores)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        weights /= weights.sum(-1, keepdims=True)
        return np.einsum("hqk,khd->qhd", weights, v).reshape(len(q), -1)

    def tokenizer(self):
        contents = lambda key: self.reader.fields[f"tokenizer.ggml.{key}"].contents()
        vocabulary = {token: index for index, token in enumerate(contents("tokens"))}
        merges = [tuple(pair.split(" ", 1)) for pair in contents("merges")]
        tokenizer = Tokenizer(models.BPE(vocabulary, merges))
        digits = pre_tokenizers.Digits(individual_digits=True)
        split = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, split])
        tokenizer.decoder = decoders.ByteLevel()
        return tokenizer


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("--logits", type=Path)
    arguments = parser.parse_args()
    model = Model(arguments.model)
    tokenizer = model.tokenizer()
    found = []
    for number, prompt in enumerate(PROMPTS):
        tokens = tokenizer.encode(prompt).ids
        cache, answer = [], []
        logits = model.forward(tokens, cache)
        if number == 0 and arguments.logits:
            np.save(arguments.logits / "reference.npy", logits.astype(np.float32))
        sample = [round(float(logit), 5) for logit in logits[-1][::EVERY]]
        while True:
            answer.append(int(logits[-1].argmax()))
            if len(answer) == ANSWER:
                break
            logits = model.forward(answer[-1:], cache)
        found.append({"prompt": prompt, "tokens": tokens, "answer": answer, "logits": sample})
        print(repr(tokenizer.decode(answer)), file=sys.stderr)
    print("[")
    print(",\n".join(json.dumps(one) for one in found))
    print("]")


main()

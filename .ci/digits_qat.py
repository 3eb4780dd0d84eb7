"""Checks what the example digits_qat measures with two-bit weights.

    python3 .ci/digits_qat.py digits-qat.json
"""

import json
import sys


def main(measured_path):
    with open(measured_path, encoding="utf-8") as file:
        measured = json.load(file)
    mistakes = []
    for name in ("float", "ptq", "qat"):
        row = measured[name]
        mean = sum(row["per_seed"]) / len(row["per_seed"])
        if abs(mean - row["mean"]) > 1e-9:
            mistakes.append(f"{name}: the mean of {row['per_seed']} is not {row['mean']}")
    if measured["float"]["mean"] < 0.96:
        mistakes.append(f"the float model has {measured['float']['mean']}")
    if measured["qat"]["mean"] < 0.90:
        mistakes.append(f"trained for {measured['bits']} bits it has {measured['qat']['mean']}")
    if measured["qat"]["mean"] < measured["ptq"]["mean"]:
        mistakes.append("training for it wins nothing")
    for mistake in mistakes:
        print(mistake, file=sys.stderr)
    return 1 if mistakes else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

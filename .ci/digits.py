"""Checks what the digits example measures, and that the table of the guide says the same.

    python3 .ci/digits.py digits.json docs/guide.md
"""

import json
import re
import sys

# The least accuracy, and the largest share of the float file's bytes, of each variant.
BOUNDS = {
    "f32": (0.96, 1.00),
    "per_tensor_symmetric_int8": (0.96, 0.45),
    "per_tensor_affine_int8": (0.96, 0.45),
    "per_channel_symmetric_int8": (0.96, 0.50),
    "per_block_int8": (0.96, 0.55),
    "per_channel_int4": (0.90, 0.40),
    "per_channel_int4_mse": (0.90, 0.40),
    "per_channel_int2": (0.00, 0.35),
    "dynamic_int8": (0.96, 0.50),
    "static_int8": (0.96, 0.50),
}


def main(measured_path, guide_path):
    with open(measured_path, encoding="utf-8") as file:
        measured = json.load(file)
    with open(guide_path, encoding="utf-8") as file:
        guide = file.read()
    mistakes = [f"{name} is missing" for name in BOUNDS.keys() - measured.keys()]
    for name, row in measured.items():
        accuracy, share = BOUNDS[name]
        if row["accuracy"] < accuracy:
            mistakes.append(f"{name}: accuracy {row['accuracy']} is below {accuracy}")
        if row["bytes"] > share * measured["f32"]["bytes"]:
            mistakes.append(f"{name}: {row['bytes']} bytes are above {share} of the float file")
        line = rf"\| `{name}` \| {100 * row['accuracy']:.2f} % \| {row['bytes']} \|"
        if not re.search(line, guide):
            mistakes.append(f"{name}: the guide has no line {line}")
    for mistake in mistakes:
        print(mistake)
    if mistakes:
        sys.exit(1)
    print(f"{len(measured)} variants are as accurate and as small as they should be")


main(*sys.argv[1:])

"""Prints `quant-formats/src/ggml/decode/codebooks.rs` from the Python package `gguf`.

    python3 tests/python/gguf_codebooks.py > quant-formats/src/ggml/decode/codebooks.rs
"""

import numpy as np
from gguf import quants

HEAD = """\
//! Codebooks of vectors, packed.
//!
//! Vectors of 8 have 2 bits for each element, vectors of 4 have 4 bits, the first element in the low
//! bits. They are those of the Python package `gguf`, whose licence is MIT;
//! `tests/python/gguf_codebooks.py` prints this file."""

TABLES = [
    ("IQ1_S", 8, "`IQ1_S` and `IQ1_M`"),
    ("IQ2_XXS", 8, "`IQ2_XXS`"),
    ("IQ2_XS", 8, "`IQ2_XS`"),
    ("IQ2_S", 8, "`IQ2_S`"),
    ("IQ3_XXS", 4, "`IQ3_XXS`"),
    ("IQ3_S", 4, "`IQ3_S`"),
]


def main():
    print(HEAD)
    for name, length, types in TABLES:
        words = np.frombuffer(bytes.fromhex(getattr(quants, name).grid_hex.decode()), "<u2")
        print(f"\n/// Vectors of {length} for {types}.\n#[rustfmt::skip]")
        print(f"pub(super) const {name}: [u16; {len(words)}] = [")
        for row in range(0, len(words), 12):
            print("   " + "".join(f" 0x{word:04X}," for word in words[row : row + 12]))
        print("];")


if __name__ == "__main__":
    main()

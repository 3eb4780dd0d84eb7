#!/bin/sh
# Builds llama.cpp for the benchmark of language models, by hand: it takes some minutes.
#
#     benches/peers/llama_cpp.sh DIR [CMAKE OPTION …]
#     QUANT_LLAMA_CPP=DIR/bin cargo run --release -p benches -- lm
#
# The source is that which the package `llama-cpp-python` ships. `cmake` and `ninja` are taken from
# packages of the same names where they are missing. The build is for the CPU that it runs on. Where it uses
# instructions that the machine refuses (AMX on some virtual ones), say which ones it may use:
# `-DGGML_NATIVE=OFF -DGGML_AVX2=ON -DGGML_FMA=ON -DGGML_F16C=ON -DGGML_BMI2=ON`, and for AVX-512
# `-DGGML_AVX512=ON -DGGML_AVX512_VNNI=ON -DGGML_AVX512_VBMI=ON`.
set -eu
version=0.3.36
dir=${1:?the directory to build in}
shift
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)
cd "$dir"

for tool in cmake ninja; do
    command -v "$tool" >/dev/null || pip install --quiet "$tool"
done
archive=llama_cpp_python-$version.tar.gz
[ -f "$archive" ] || pip download --quiet --no-deps --no-binary llama-cpp-python \
    "llama-cpp-python==$version" -d "$dir"
source=llama_cpp_python-$version/vendor/llama.cpp
[ -d "$source" ] || tar xzf "$archive"

cmake -S "$source" -B build -G Ninja -DCMAKE_BUILD_TYPE=Release -DGGML_NATIVE=ON \
    -DBUILD_SHARED_LIBS=OFF -DLLAMA_CURL=OFF -DLLAMA_OPENSSL=OFF -DLLAMA_BUILD_TESTS=OFF \
    -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_SERVER=OFF -DLLAMA_BUILD_UI=OFF "$@"
cmake --build build --target llama-bench llama-perplexity llama-quantize
mkdir -p bin
cp build/bin/llama-bench build/bin/llama-perplexity build/bin/llama-quantize bin/

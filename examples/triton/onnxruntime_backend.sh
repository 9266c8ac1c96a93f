#!/bin/sh
# Builds Triton's ONNX Runtime backend for CPUs from NVIDIA's sources, for a Triton that comes without one: the
# package nvidia-pytriton carries Triton with the Python backend alone. Needs g++ and rapidjson-dev.
#
#   sh onnxruntime_backend.sh SOURCES HEADERS LIBRARY BACKENDS
#
# SOURCES   folder with clones of https://github.com/triton-inference-server/{onnxruntime_backend,backend,core,common},
#           all on the branch of the server's release (r24.10 for nvidia-pytriton 0.7)
# HEADERS   folder with ONNX Runtime's onnxruntime_c_api.h and what that includes, no newer than the library
# LIBRARY   ONNX Runtime itself, as .../site-packages/onnxruntime/capi/libonnxruntime.so.1.32.0
# BACKENDS  folder that tritonserver is given as --backend-directory; gets a folder onnxruntime
set -eu
sources=$1 headers=$2 library=$3 out=$4/onnxruntime
mkdir -p "$out"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for file in "$sources"/onnxruntime_backend/src/*.cc "$sources"/backend/src/*.cc \
    "$sources"/common/src/async_work_queue.cc "$sources"/common/src/error.cc "$sources"/common/src/thread_pool.cc; do
    case $file in */device_memory_tracker.cc) continue ;; esac # for GPUs
    g++ -std=c++17 -O2 -fPIC -w -I"$headers" -I"$sources/backend/include" -I"$sources/core/include" \
        -I"$sources/common/include" -c "$file" -o "$work/$(basename "$file").o"
done
cp "$library" "$out/libonnxruntime.so.1"
g++ -shared -o "$out/libtriton_onnxruntime.so" "$work"/*.o "$out/libonnxruntime.so.1" -Wl,-rpath,'$ORIGIN' -lpthread -ldl

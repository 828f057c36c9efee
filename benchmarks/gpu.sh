#!/usr/bin/env bash
# Everything that needs a GPU, in one command and under 8 minutes:
#
#   bash benchmarks/gpu.sh OUT [WHEELS]
#
# Builds the kernel, and the plugin where CMake and TensorRT's headers are; runs the tests that need a GPU and the
# benchmark; writes logs, results and summary.md to the folder OUT. Uses the repository in place and installs nothing.
# Needs nvcc and a Python (PYTHON, default python3) with torch, triton, numpy and pytest. What else is of use
# (tensorrt-lean, kernel-lens for the headers, ONNX Runtime CUDA) is taken from the wheels in the folder WHEELS.
#
# Exit codes: 0 all fine, 1 something failed, 2 wrong usage, 3 no GPU or no nvcc: what needs none has run.
set -uo pipefail

if [[ $# -lt 1 || $# -gt 2 ]]; then
    sed -n '2,11s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2
    exit 2
fi
mkdir -p "$1" || exit 2
out=$(cd "$1" && pwd)
wheels=${2:+$(cd "$2" && pwd)} || exit 2
python=$("${PYTHON:-python3}" -c 'import sys; print(sys.executable)') || exit 2
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 2
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
export PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 HF_HUB_OFFLINE=1 TQDM_DISABLE=1
failed=0
: >"$out/summary.md"

say() { # a line of the summary
    printf -- '- %s\n' "$*" | tee -a "$out/summary.md"
}

step() { # step NAME LOG SECONDS COMMAND...: run it, and say how it went
    local name=$1 log=$out/$2 limit=$3 began=$SECONDS code
    shift 3
    printf '\n$ %s\n' "$*" >>"$log"
    timeout --kill-after=10 "$limit" "$@" >>"$log" 2>&1
    code=$?
    if [[ $code -eq 0 ]]; then
        say "$name: ok, $((SECONDS - began)) s"
    else
        failed=1
        [[ $code -eq 124 || $code -eq 137 ]] && code="stopped after $limit s"
        say "$name: FAILED ($code), see $2"
        tail -n 25 "$log"
    fi
    [[ $code == 0 ]]
}

# The settings of pyproject.toml name plugins that may not be installed.
tests() { "$python" -m pytest -c /dev/null --rootdir=. --import-mode=importlib -p no:cacheprovider -q -rs "$@"; }
export -f tests
export python

{
    date -u '+%Y-%m-%d %H:%M UTC'
    "$python" --version
    nvcc --version
    nvidia-smi
    "$python" - <<'END'
from importlib.metadata import PackageNotFoundError, version
for name in ("torch", "triton", "numpy", "pytest", "onnx", "onnxruntime", "onnxruntime-gpu", "transformers", "tensorrt-lean"):
    try:
        print(name, version(name))
    except PackageNotFoundError:
        print(name, "is not installed")
END
} >"$out/environment.txt" 2>&1

if [[ -n $wheels ]]; then
    for wheel in "$wheels"/*.whl; do
        [[ -e $wheel ]] || continue
        "$python" -m zipfile -e "$wheel" "$scratch/site" && say "taken from $(basename "$wheel")"
    done
    export PYTHONPATH=$scratch/site${PYTHONPATH:+:$PYTHONPATH}
fi

if ! command -v nvcc >/dev/null; then
    say "no nvcc: nothing was built, nothing was run"
    exit 3
fi
gpu=$("$python" -c 'import ctypes; print(int(ctypes.CDLL("libcuda.so.1").cuInit(0) == 0))' 2>/dev/null || echo 0)
architecture=90
if [[ $gpu == 1 ]]; then
    architecture=native
    say "GPU: $(nvidia-smi --query-gpu=name,driver_version --format=csv,noheader | head -1)"
fi

build="from plugins.binding import build_cuda, build_host; print(build_cuda(['$architecture']), build_host())"
step "build of the kernel" kernel.log 150 "$python" -c "$build" || exit 1

# The plugin builds beside the kernel's tests; nothing else runs while the benchmark measures.
plugin_build() {
    if ! command -v cmake >/dev/null; then
        echo "plugin: no cmake, not built"
        return 1
    fi
    local cmake_architecture=$architecture
    [[ $architecture == 90 ]] && cmake_architecture=90-real
    if ! cmake -S plugins -B "$scratch/plugin" -DROPE_BUILD_TESTS=ON \
        -DPython3_EXECUTABLE="$python" \
        -DCMAKE_CUDA_ARCHITECTURES="$cmake_architecture" >>"$out/plugin.log" 2>&1; then
        if grep -q "Could NOT find TensorRT" "$out/plugin.log"; then
            echo "plugin: no TensorRT headers, not built (give kernel-lens's wheel or TENSORRT_ROOT)"
            return 1
        fi
        echo "plugin: FAILED to configure, see plugin.log"
        return 2
    fi
    if ! timeout 200 cmake --build "$scratch/plugin" --parallel >>"$out/plugin.log" 2>&1; then
        echo "plugin: FAILED to build, see plugin.log"
        return 2
    fi
    echo "build of the plugin: ok"
}
plugin_build >"$scratch/plugin.said" &
plugin=$!

if [[ $gpu == 1 ]]; then
    step "tests of the kernel on the GPU" kernel.log 150 \
        bash -c 'tests -m gpu -k "not sanitizer" tests/plugins/test_kernel.py'
    step "compute-sanitizer on the kernel" kernel.log 130 \
        bash -c 'tests -m gpu -k sanitizer tests/plugins/test_kernel.py'
else
    step "tests of the kernel on the CPU" kernel.log 170 bash -c 'tests -m "not gpu" tests/plugins/test_kernel.py'
    say "tests of the kernel on the GPU: no GPU: not run"
fi

wait "$plugin"
built=$?
say "$(cat "$scratch/plugin.said")"
[[ $built -eq 2 ]] && failed=1
export ROPE_PLUGIN_BUILD=$scratch/plugin
if [[ $built -ne 0 ]]; then
    say "tests of the plugin: not run, it was not built"
elif [[ $gpu == 1 ]]; then
    step "tests of the plugin on the GPU" plugin.log 90 bash -c 'tests -m gpu tests/plugins/test_enqueue.py'
    "$python" -c 'import tensorrt_lean_bindings' 2>>"$out/plugin.log" ||
        say "tensorrt-lean's registry: skipped, it is not installed and no wheel of it was given"
else
    step "tests of the plugin on the CPU" plugin.log 90 bash -c 'tests -m "not gpu" tests/plugins/test_enqueue.py'
    say "tests of the plugin on the GPU: no GPU: not run"
fi

if [[ $gpu == 1 ]]; then
    left=$((440 - SECONDS))
    step "benchmark" benchmark.log "$left" \
        "$python" -m benchmarks.rope_gpu --out "$out/rope_gpu.json" --seconds "$((left > 300 ? 240 : left - 60))"
    {
        printf '\n```\n'
        sed -n '/^Correctly rounded/,$p' "$out/benchmark.log"
        printf '```\n'
    } >>"$out/summary.md"
else
    step "dry run of the benchmark" benchmark.log 120 \
        "$python" -m benchmarks.rope_gpu --dry-run --types bfloat16 --shapes S512 B64 SmolLM2 --out "$out/dry_run.json"
    say "benchmark: no GPU: not run"
fi
say "$SECONDS s altogether"
[[ $failed -ne 0 ]] && exit 1
[[ $gpu == 1 ]] && exit 0
exit 3

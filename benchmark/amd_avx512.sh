#!/usr/bin/env bash
# Runs a command with MKL's AVX-512 code on AMD processors, where by itself MKL, and so PyTorch, stays on AVX2.
#     benchmark/figure7.sh | benchmark/amd_avx512.sh benchmark/local.sh --workers 2
#     benchmark/amd_avx512.sh python d3g_continuous.py --env-id Hopper-v4
# A library of one function, preloaded, answers MKL's question whether the processor is Intel's with yes. MKL then looks
# at what the processor can do, so that one without AVX-512 computes as before, and so do Intel's. The last bits of the
# results differ from those without it. The library goes to ~/.cache/qss-d3g, or where XDG_CACHE_HOME says.
set -euo pipefail

fail() { echo "error: benchmark/amd_avx512.sh: $*" >&2; exit 2; }

[ $# -gt 0 ] || fail "must be followed by a command"
cache=${XDG_CACHE_HOME:-${HOME-}/.cache}/qss-d3g
[[ $cache = /* && ! $cache =~ [[:space:]:] ]] || fail "$cache: must be a folder from the root on, without blanks and colons"
library=$cache/amd_avx512.so
if [ ! -e "$library" ]; then
    compiler=$(command -v cc || command -v gcc || command -v clang) ||
        fail "needs a C compiler (cc, gcc or clang; Debian: gcc); without it the command runs as well, on AVX2"
    mkdir -p "$cache" || fail "cannot write to $cache"
    echo 'int mkl_serv_intel_cpu_true(void) { return 1; }' |
        "$compiler" -shared -fPIC -O2 -x c - -o "$library.$$" || fail "$compiler could not build the library"
    mv "$library.$$" "$library"
fi
export LD_PRELOAD="$library${LD_PRELOAD:+:$LD_PRELOAD}"
exec "$@"

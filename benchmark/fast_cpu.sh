#!/usr/bin/env bash
# Runs a command with what makes it faster on this processor: up to two libraries, preloaded.
#     benchmark/figure7.sh | benchmark/fast_cpu.sh benchmark/local.sh --workers 2
#     benchmark/fast_cpu.sh python d3g_continuous.py --env-id Hopper-v4
# On AMD processors, a library of one function which answers MKL's question whether the processor is Intel's with yes.
# By itself MKL, and so PyTorch, stays on AVX2 there; so asked, it looks at what the processor can do and takes AVX-512
# where it is. One without it (before Zen 4) is as fast as before. On both the last bits of the results differ from those
# without the library. It is built once, by a C compiler, and goes to ~/.cache/qss-d3g, or where XDG_CACHE_HOME says.
# On all processors, tcmalloc (Debian: libtcmalloc-minimal4) where it is installed, which hands out memory faster. The
# numbers stay as they are.
set -euo pipefail
if [ "${1-}" = -h ] || [ "${1-}" = --help ]; then
    sed -n '2,/^set/s/^# \{0,1\}//p' "$0"
    exit
fi

fail() {
    echo "error: benchmark/fast_cpu.sh: $*" >&2
    exit 2
}

[ $# -gt 0 ] || fail "must be followed by a command"
preloaded=${LD_PRELOAD:-}

mapfile -t tcmalloc < <(PATH=$PATH:/usr/sbin:/sbin ldconfig -p | sed -n 's/^\s*libtcmalloc_minimal\.so\.4 .*=> //p')
if [ ${#tcmalloc[@]} -gt 0 ]; then preloaded=${tcmalloc[0]}${preloaded:+:$preloaded}; fi

if grep -q AuthenticAMD /proc/cpuinfo; then
    cache=${XDG_CACHE_HOME:-${HOME-}/.cache}/qss-d3g
    [[ $cache = /* && ! $cache =~ [[:space:]:] ]] ||
        fail "$cache: must be a folder from the root on, without blanks and colons"
    library=$cache/amd_avx512.so
    if [ ! -e "$library" ]; then
        compiler=$(command -v cc || command -v gcc || command -v clang) ||
            fail "needs a C compiler (cc, gcc or clang; Debian: gcc); without it the command runs as well, on AVX2"
        mkdir -p "$cache" || fail "cannot write to $cache"
        echo 'int mkl_serv_intel_cpu_true(void) { return 1; }' |
            "$compiler" -shared -fPIC -O2 -x c - -o "$library.$$" || fail "$compiler could not build the library"
        mv "$library.$$" "$library"
    fi
    preloaded=$library${preloaded:+:$preloaded}
fi

if [ -n "$preloaded" ]; then export LD_PRELOAD=$preloaded; fi
exec "$@"

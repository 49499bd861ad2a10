#!/usr/bin/env bash
# Prints the commands that make the data of Figure 6, a run each; further arguments are passed on.
#     benchmark/figure6.sh | bash && python benchmark/figure6.py runs/figure6
set -euo pipefail -f
source "$(dirname "$0")/printer.sh"

refuse "--variants --seed --num-seeds --run-dir --resume --no-resume" "is chosen here, not passed on" "$@"
for seed in 1 2 3 4 5; do
    for variant in d3g d3g_no_cycle; do
        echo "python d3g_gridworld.py --variants $variant --seed $seed --num-seeds 1" \
            "--run-dir runs/figure6 --resume$(quoted "$@")"
    done
done

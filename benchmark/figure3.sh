#!/usr/bin/env bash
# Prints the command that makes the data of Figure 3; further arguments are passed on.
#     benchmark/figure3.sh --num-threads 2 | bash && python benchmark/figure3.py runs/figure3
set -euo pipefail -f
source "$(dirname "$0")/printer.sh"

refuse "--experiment --seed --run-dir --resume --no-resume" "is chosen here, not passed on" "$@"
echo "python tabular_qss.py --experiment figure3 --run-dir runs/figure3 --resume$(quoted "$@")"

#!/usr/bin/env bash
# Prints the command that makes the data of Figure 2; further arguments are passed on.
#     benchmark/figure2.sh --num-threads 2 | bash && python benchmark/figure2.py runs/figure2
set -euo pipefail -f
source "$(dirname "$0")/printer.sh"

refuse "--experiment --seed --run-dir --resume --no-resume" "is chosen here, not passed on" "$@"
echo "python tabular_qss.py --experiment figure2 --run-dir runs/figure2 --resume$(quoted "$@")"

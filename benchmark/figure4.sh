#!/usr/bin/env bash
# Prints the commands that make the data of Figure 4; further arguments are passed on.
#     benchmark/figure4.sh --num-threads 2 | bash && python benchmark/figure4.py runs/figure4/*
set -euo pipefail -f
source "$(dirname "$0")/printer.sh"

refuse "--experiment --seed --run-dir --resume --no-resume" "is chosen here, not passed on" "$@"
for experiment in figure4a figure4b figure4c figure4d; do
    echo "python tabular_qss.py --experiment $experiment --run-dir runs/figure4/$experiment --resume$(quoted "$@")"
done

#!/usr/bin/env bash
# Prints the commands that make the data of the appendix's tabular figures; further arguments are passed on.
#     benchmark/appendix.sh --num-threads 2 | bash && python benchmark/appendix.py runs/appendix/*
set -euo pipefail -f
source "$(dirname "$0")/printer.sh"

refuse "--experiment --seed --run-dir --resume --no-resume" "is chosen here, not passed on" "$@"
for experiment in appendix_stochastic appendix_windy; do
    echo "python tabular_qss.py --experiment $experiment --run-dir runs/appendix/$experiment --resume$(quoted "$@")"
done

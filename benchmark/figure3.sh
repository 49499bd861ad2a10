#!/usr/bin/env bash
# Prints the command that makes the data of Figure 3; further arguments are passed on.
#     benchmark/figure3.sh --num-threads 2 | bash && python benchmark/figure3.py runs/figure3
echo python tabular_qss.py --experiment figure3 --run-dir runs/figure3 --resume${1+$(printf ' %q' "$@")}

#!/usr/bin/env bash
# Prints the commands that make the data of Figure 4; further arguments are passed on.
#     benchmark/figure4.sh --num-threads 2 | bash && python benchmark/figure4.py runs/figure4/*
for experiment in figure4a figure4b figure4c figure4d; do
    echo python tabular_qss.py --experiment $experiment --run-dir runs/figure4/$experiment --resume${1+$(printf ' %q' "$@")}
done

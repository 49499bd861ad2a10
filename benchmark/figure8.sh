#!/usr/bin/env bash
# Prints the commands that make the data of Figure 8; further arguments are passed on.
#     benchmark/figure8.sh | bash && python benchmark/figure8.py runs/figure8/Reacher-v4
for task in InvertedPendulum-v4 Reacher-v4; do
    echo python d3g_from_obs.py --env-id $task --run-dir runs/figure8/$task --resume${1+$(printf ' %q' "$@")}
done

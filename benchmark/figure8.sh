#!/usr/bin/env bash
# Prints the commands that make the data of Figure 8: two data sets of random actions, which are those of Table 1, and
# after a line `wait`, for which they must be there, a run of D3G on each.
#     benchmark/figure8.sh | benchmark/local.sh && python benchmark/figure8.py runs/figure8/Reacher-v4
#     benchmark/figure8.sh --data "--dataset-size 100000" --offline-updates 150000
# --data takes further arguments of the collection; what remains goes to the runs.
set -euo pipefail -f
source "$(dirname "$0")/printer.sh"

data=
passed=()
while [ $# -gt 0 ]; do
    case $1 in
        --data=*) data=${1#*=} ;;
        --data)
            [ $# -gt 1 ] || fail "--data: must be followed by its value"
            data=$2
            shift ;;
        *) passed+=("$1") ;;
    esac
    shift
done
chosen="--env-id --seed --run-dir --resume --no-resume --collect --dataset --demonstrator --randomness"
refuse "$chosen" "is chosen here, not passed on" $data "${passed[@]}"
refuse "--dataset-size --dataset-seed" "is of the data set, must be in --data" "${passed[@]}"

for task in InvertedPendulum-v4 Reacher-v4; do
    echo "python d3g_from_obs.py --env-id $task --randomness 1${data:+ $data} --collect datasets/${task}__random1.npz"
done
echo wait
for task in InvertedPendulum-v4 Reacher-v4; do
    echo "python d3g_from_obs.py --env-id $task --dataset datasets/${task}__random1.npz --run-dir runs/figure8/$task" \
        "--resume$(quoted "${passed[@]}")"
done

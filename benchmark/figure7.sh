#!/usr/bin/env bash
# Prints the commands that make the data of Figure 7, a run each: 8 tasks, 4 algorithms, 10 seeds.
#     benchmark/figure7.sh | benchmark/local.sh &&
#         python benchmark/figure7.py runs/figure7/* --output runs/figure7.png
#     benchmark/figure7.sh --tasks Hopper-v4,Ant-v4 --algorithms td3,d3g --seeds 1,2,3 --total-timesteps 300000
# The three selections are the printer's own; further arguments are passed on to every run. Algorithms are td3, ddpg,
# d3g, d3g_no_cycle (D3G without its cycle) and, only where it is named, d3g_plus (D3G with standardised differences).
set -euo pipefail -f
source "$(dirname "$0")/printer.sh"

tasks=HalfCheetah-v4,Hopper-v4,Walker2d-v4,Ant-v4,Humanoid-v4,InvertedPendulum-v4,InvertedDoublePendulum-v4,Reacher-v4
algorithms=td3,ddpg,d3g,d3g_no_cycle
seeds=1,2,3,4,5,6,7,8,9,10

passed=()
while [ $# -gt 0 ]; do
    case $1 in
        --tasks | --algorithms | --seeds | --tasks=* | --algorithms=* | --seeds=*)
            name=${1%%=*}
            value=${2-}
            if [[ $1 = *=* ]]; then value=${1#*=}; elif [ $# -gt 1 ]; then shift; fi
            [ -n "${value//[, ]/}" ] || fail "$name: must be followed by its value, or values separated by commas"
            declare "${name#--}=$value" ;;
        *) passed+=("$1") ;;
    esac
    shift
done
chosen="--env-id --seed --run-dir --resume --no-resume --algorithm --cycle --no-cycle --standardize --no-standardize"
refuse "$chosen" "is chosen for each run; select with --tasks, --algorithms and --seeds" "${passed[@]}"
check_tasks "$tasks"
check_seeds "$seeds"
for algorithm in ${algorithms//,/ }; do
    [[ $algorithm =~ ^(td3|ddpg|d3g|d3g_no_cycle|d3g_plus)$ ]] ||
        fail "--algorithms $algorithms: must be of td3, ddpg, d3g, d3g_no_cycle, d3g_plus, separated by commas"
done
distinct --algorithms "$algorithms"

declare -A script=(
    [td3]="td3_baseline.py" [ddpg]="td3_baseline.py --algorithm ddpg"
    [d3g]="d3g_continuous.py" [d3g_no_cycle]="d3g_continuous.py --no-cycle" [d3g_plus]="d3g_continuous.py --standardize"
)
for seed in ${seeds//,/ }; do
    for task in ${tasks//,/ }; do
        for algorithm in ${algorithms//,/ }; do
            run_dir="runs/figure7/${task//[\/:]/_}__${algorithm}__$seed"
            echo "python ${script[$algorithm]} --env-id $task --seed $seed$(quoted "${passed[@]}")" \
                "--run-dir $run_dir --resume"
        done
    done
done

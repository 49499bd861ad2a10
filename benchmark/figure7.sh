#!/usr/bin/env bash
# Prints the commands that make the data of Figure 7, a run each: 8 tasks, 4 algorithms, 10 seeds.
#     benchmark/figure7.sh | benchmark/local.sh &&
#         python benchmark/figure7.py runs/figure7/* --output figure7.png
#     benchmark/figure7.sh --tasks Hopper-v4,Ant-v4 --algorithms td3,d3g --seeds 1,2,3 --total-timesteps 300000
# The three selections are the printer's own; further arguments are passed on to every run.
set -euo pipefail -f

tasks=HalfCheetah-v4,Hopper-v4,Walker2d-v4,Ant-v4,Humanoid-v4,InvertedPendulum-v4,InvertedDoublePendulum-v4,Reacher-v4
algorithms=td3,ddpg,d3g,d3g_no_cycle
seeds=1,2,3,4,5,6,7,8,9,10

fail() { echo "error: $*" >&2; exit 2; }

passed=()
while [ $# -gt 0 ]; do
    name=${1%%=*} name=${name//_/-}
    case $name in
        --tasks | --algorithms | --seeds)
            value=${2-}
            if [[ $1 = *=* ]]; then value=${1#*=}; elif [ $# -gt 1 ]; then shift; fi
            [ -n "${value//,/}" ] || fail "$name: must be followed by its value, or values separated by commas"
            declare "${name#--}=$value" ;;
        --env-id | --algorithm | --seed | --run-dir | --resume)
            fail "$name: is chosen for each run; select with --tasks, --algorithms and --seeds" ;;
        -h | --help)
            sed -n '2,/^set/s/^# \{0,1\}//p' "$0"
            exit ;;
        *) passed+=("$1") ;;
    esac
    shift
done
for seed in ${seeds//,/ }; do
    [[ $seed =~ ^[0-9]+$ ]] || fail "--seeds $seeds: must be whole numbers, separated by commas"
done
for algorithm in ${algorithms//,/ }; do
    [[ $algorithm =~ ^(td3|ddpg|d3g|d3g_no_cycle)$ ]] ||
        fail "--algorithms $algorithms: must be of td3, ddpg, d3g, d3g_no_cycle, separated by commas"
done

declare -A script=(
    [td3]="td3_baseline.py" [ddpg]="td3_baseline.py --algorithm ddpg"
    [d3g]="d3g_continuous.py" [d3g_no_cycle]="d3g_continuous.py --no-cycle"
)
for seed in ${seeds//,/ }; do
    for task in ${tasks//,/ }; do
        for algorithm in ${algorithms//,/ }; do
            run_dir="runs/figure7/${task//[\/:]/_}__${algorithm}__$seed"
            echo "python ${script[$algorithm]} --env-id $task --seed $seed${passed[*]:+$(printf ' %q' "${passed[@]}")}" \
                "--run-dir $run_dir --resume"
        done
    done
done

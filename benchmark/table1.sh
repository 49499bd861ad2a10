#!/usr/bin/env bash
# Prints the commands that make the data of Table 1: a TD3 expert per task, the data sets, then a run of D3G and one of
# BCO per data set and seed. What stands above a line `wait` must have ended well before what follows it starts.
#     benchmark/table1.sh | benchmark/local.sh &&
#         python benchmark/table1.py runs/table1/* --output runs/table1.md
#     benchmark/table1.sh --tasks InvertedPendulum-v4 --randomness 0,1 --seeds 1,2 --d3g "--offline-updates 150000"
# The selections --tasks, --randomness, --algorithms and --seeds are the printer's own; algorithms are d3g, bco and, only
# where it is named, d3g_plus (D3G with the four options of D3G+). --expert, --data, --d3g and --bco take further
# arguments of the experts, the collection, all runs of D3G and those of BCO; what remains goes to all runs that learn
# from data.
set -euo pipefail -f
source "$(dirname "$0")/printer.sh"

tasks=Reacher-v4,InvertedPendulum-v4
randomness=0,0.25,0.5,0.75,1
algorithms=d3g,bco
seeds=1,2,3,4,5,6,7,8,9,10
expert= data= d3g= bco=

passed=()
while [ $# -gt 0 ]; do
    case ${1%%=*} in
        --tasks | --randomness | --algorithms | --seeds | --expert | --data | --d3g | --bco)
            name=${1%%=*}
            value=${2-}
            if [[ $1 = *=* ]]; then value=${1#*=}; elif [ $# -gt 1 ]; then shift; fi
            [ -n "${value//[, ]/}" ] || fail "$name: must be followed by its value"
            declare "${name#--}=$value" ;;
        *) passed+=("$1") ;;
    esac
    shift
done
chosen="--env-id --run-dir --resume --no-resume --demonstrator --randomness --collect --dataset"
why="is chosen for each run; select with --tasks, --randomness, --algorithms and --seeds"
refuse "$chosen --algorithm" "$why" $expert
plus="--standardize --no-standardize --scale-states --no-scale-states --clamp-values --no-clamp-values"
plus+=" --aim-halfway --no-aim-halfway"
refuse "$chosen --seed $plus" "$why" $data $d3g $bco "${passed[@]}"
refuse "--dataset-size --dataset-seed" "is of the data sets, must be in --data" $d3g $bco "${passed[@]}"
check_tasks "$tasks"
check_seeds "$seeds"
for p in ${randomness//,/ }; do
    [[ $p =~ ^(0|0\.[0-9]*[1-9]|1)$ ]] ||
        fail "--randomness $randomness: must be 0, 0.25 or the like, or 1, separated by commas"
done
distinct --randomness "$randomness"
for algorithm in ${algorithms//,/ }; do
    [[ $algorithm =~ ^(d3g|d3g_plus|bco)$ ]] ||
        fail "--algorithms $algorithms: must be of d3g, d3g_plus, bco, separated by commas"
done
distinct --algorithms "$algorithms"

# Completely random actions need no expert, and 1 is the only share of them that does not begin with 0
if [[ " ${randomness//,/ } " = *" 0"* ]]; then
    for task in ${tasks//,/ }; do
        echo "python td3_baseline.py --env-id $task${expert:+ $expert} --run-dir runs/experts/${task//[\/:]/_} --resume"
    done
    echo wait
fi
for task in ${tasks//,/ }; do
    for p in ${randomness//,/ }; do
        demonstrator=" --demonstrator runs/experts/${task//[\/:]/_}/model.pt"
        if [ "$p" = 1 ]; then demonstrator=; fi
        echo "python d3g_from_obs.py --env-id $task$demonstrator --randomness $p${data:+ $data}" \
            "--collect datasets/${task//[\/:]/_}__random$p.npz"
    done
done
echo wait
declare -A script=([d3g]="d3g_from_obs.py" [bco]="bco_baseline.py")
script[d3g_plus]="d3g_from_obs.py --standardize --scale-states --clamp-values --aim-halfway"
declare -A arguments=([d3g]=$d3g [d3g_plus]=$d3g [bco]=$bco)
for seed in ${seeds//,/ }; do
    for task in ${tasks//,/ }; do
        for p in ${randomness//,/ }; do
            for algorithm in ${algorithms//,/ }; do
                name=${task//[\/:]/_}__random$p
                more=${arguments[$algorithm]}
                echo "python ${script[$algorithm]} --env-id $task --dataset datasets/$name.npz --seed $seed$(
                    quoted "${passed[@]}")${more:+ $more} --run-dir runs/table1/${name}__${algorithm}__$seed --resume"
            done
        done
    done
done

#!/usr/bin/env bash
# Prints the commands that make the data of Table 1: a TD3 expert per task, the data sets, then a run of D3G and one of
# BCO per data set and seed. What stands above a line `wait` must have ended well before what follows it starts.
#     benchmark/table1.sh | benchmark/local.sh &&
#         python benchmark/table1.py runs/table1/* --output table1.md
#     benchmark/table1.sh --tasks InvertedPendulum-v4 --randomness 0,1 --seeds 1,2 --d3g "--offline-updates 150000"
# The selections are the printer's own. --expert, --d3g and --bco take further arguments of those runs alone, and
# --data of the collection and of all runs that learn from it; what remains goes to the runs of D3G and BCO.
set -euo pipefail -f

tasks=Reacher-v4,InvertedPendulum-v4
randomness=0,0.25,0.5,0.75,1
algorithms=d3g,bco
seeds=1,2,3,4,5,6,7,8,9,10
expert= data= d3g= bco=

fail() { echo "error: $*" >&2; exit 2; }

passed=()
while [ $# -gt 0 ]; do
    name=${1%%=*} name=${name//_/-}
    case $name in
        --tasks | --randomness | --algorithms | --seeds | --expert | --data | --d3g | --bco)
            value=${2-}
            if [[ $1 = *=* ]]; then value=${1#*=}; elif [ $# -gt 1 ]; then shift; fi
            [ -n "${value//,/}" ] || fail "$name: must be followed by its value"
            declare "${name#--}=$value" ;;
        --env-id | --seed | --run-dir | --resume | --demonstrator | --dataset)
            fail "$name: is chosen for each run; select with --tasks, --randomness, --algorithms and --seeds" ;;
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
for p in ${randomness//,/ }; do
    [[ $p =~ ^(0|0\.[0-9]*[1-9]|1)$ ]] || fail "--randomness $randomness: must be 0, 0.25 or the like, or 1, separated by commas"
done
for algorithm in ${algorithms//,/ }; do
    [[ $algorithm =~ ^(d3g|bco)$ ]] || fail "--algorithms $algorithms: must be of d3g, bco, separated by commas"
done

# The arguments that determine a data set; completely random actions need no expert
dataset() {
    local demonstrator="--demonstrator runs/experts/${1//[\/:]/_}/model.pt"
    [ "$2" = 1 ] && demonstrator=
    echo "--env-id $1${demonstrator:+ $demonstrator} --randomness $2${data:+ $data}"
}

if [ -n "${randomness//[,1]/}" ]; then
    for task in ${tasks//,/ }; do
        echo "python td3_baseline.py --env-id $task${expert:+ $expert} --run-dir runs/experts/${task//[\/:]/_} --resume"
    done
    echo wait
fi
for task in ${tasks//,/ }; do
    for p in ${randomness//,/ }; do
        echo "python d3g_from_obs.py $(dataset "$task" "$p") --collect-only"
    done
done
echo wait
declare -A script=([d3g]="d3g_from_obs.py" [bco]="bco_baseline.py") arguments=([d3g]=$d3g [bco]=$bco)
for seed in ${seeds//,/ }; do
    for task in ${tasks//,/ }; do
        for p in ${randomness//,/ }; do
            for algorithm in ${algorithms//,/ }; do
                echo "python ${script[$algorithm]} $(dataset "$task" "$p") --seed $seed" \
                    "${passed[*]:+$(printf '%q ' "${passed[@]}")}${arguments[$algorithm]:+${arguments[$algorithm]} }--run-dir" \
                    "runs/table1/${task//[\/:]/_}__random${p}__${algorithm}__$seed --resume"
            done
        done
    done
done

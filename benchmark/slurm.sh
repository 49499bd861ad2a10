#!/usr/bin/env bash
# Submits the commands on standard input to Slurm, one core each: a job array per stage, the stages being what stands
# between lines `wait`, and each starting when the one before has ended well. At most N runs of a stage go at a time
# (--limit N, 50 by default); all other arguments are sbatch's.
#     benchmark/figure7.sh | benchmark/slurm.sh --limit 100 --partition cpu --time 2-0 --mem 4G
# Everything is in runs/slurm/{time}: the commands, a log per command and, when all is over, report.txt, which says what
# failed. A preempted or requeued run gets SIGTERM, writes its checkpoint and goes on from it when Slurm starts it again.
# After a failure or a time limit the same command line again does so, once report.txt is there. Submit from a folder
# that all nodes share.
set -euo pipefail
if [ "${1-}" = -h ] || [ "${1-}" = --help ]; then
    sed -n '2,/^set/s/^# \{0,1\}//p' "$0"
    exit
fi

fail() { echo "error: $*" >&2; exit 2; }

limit=50
options=()
while [ $# -gt 0 ]; do
    case $1 in
        --limit) limit=${2-} && shift ;;
        --limit=*) limit=${1#*=} ;;
        *) options+=("$1") ;;
    esac
    [ $# -gt 0 ] && shift
done
[[ $limit =~ ^[1-9][0-9]*$ ]] || fail "--limit $limit: must be a whole number, at least 1"
command -v sbatch >/dev/null || fail "sbatch: must be installed; on a single machine benchmark/local.sh does the same"
[ ! -t 0 ] || fail "standard input: must be commands, one per line, as benchmark/figure7.sh prints them"
commands=$(sed -e 's/^[[:space:]]*//' -e 's/[[:space:]]*$//' -e '/^#/d' -e '/^$/d')
grep -q -v -x -e wait -e '' <<<"$commands" || fail "standard input: must be commands, one per line, has none"

folder=runs/slurm/$(date +%Y-%m-%d_%H-%M-%S)_$$
mkdir -p "$folder" || fail "$folder: must be a folder that can be written to"
awk -v folder="$folder" 'BEGIN { stage = 1 } $0 != "wait" { print > (folder "/stage" stage ".txt"); filled = 1 }
    $0 == "wait" && filled { stage++; filled = 0 }' <<<"$commands"

# What each task of an array does. Slurm signals the shell and the run at once: the shell only waits for the run to end.
cat >"$folder/task.sh" <<'END'
#!/usr/bin/env bash
trap : TERM
line=$(sed -n "${SLURM_ARRAY_TASK_ID}p" "$1.txt")
echo "# $(date '+%F %T') $(hostname), restart ${SLURM_RESTART_COUNT:-0}: $line"
rm -f "$1.$SLURM_ARRAY_TASK_ID.status" # of an earlier start
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
bash -c "$line" &
wait $!
status=$?
while kill -0 $! 2>/dev/null; do wait $!; status=$?; done
echo $status >"$1.$SLURM_ARRAY_TASK_ID.status"
exit $status
END
# What the last job does, whatever became of the others
cat >"$folder/report.sh" <<'END'
#!/usr/bin/env bash
total=0 well=0
for stage in "$1"/stage*.txt; do
    for ((i = 1; i <= $(wc -l <"$stage"); i++)); do
        name=${stage%.txt}.$i
        ((++total))
        status=$(cat "$name.status" 2>/dev/null || echo "none, was not started or killed")
        [ "$status" = 0 ] && ((++well)) && continue
        echo "status $status: $(sed -n "${i}p" "$stage")"
        [ -e "$name.log" ] && echo "    $name.log ends with" && tail -n 5 "$name.log" | sed 's/^/    | /'
    done
done
echo "$well of $total ended well"
[ $well = $total ]
END

jobs=() dependency=()
for ((k = 1; ; k++)); do
    stage=$folder/stage$k
    [ -e "$stage.txt" ] || break
    n=$(wc -l <"$stage.txt")
    job=$(sbatch --cpus-per-task=1 --requeue "${options[@]}" --parsable --job-name="stage$k" --array="1-$n%$limit" \
        --open-mode=append --output="$stage.%a.log" --kill-on-invalid-dep=yes "${dependency[@]}" "$folder/task.sh" "$stage") ||
        fail "sbatch did not take stage $k, see above${jobs[*]:+; before it were submitted: ${jobs[*]}}"
    jobs+=("${job%%;*}")
    dependency=("--dependency=afterok:${job%%;*}")
    echo "stage $k: $n runs, job ${job%%;*}, logs $stage.*.log"
done
job=$(sbatch --cpus-per-task=1 "${options[@]}" --parsable --job-name=report --output="$folder/report.txt" \
    --dependency="afterany$(printf ':%s' "${jobs[@]}")" "$folder/report.sh" "$folder") ||
    fail "sbatch did not take the report, see above; before it were submitted: ${jobs[*]}"
echo "report: job ${job%%;*}, $folder/report.txt"

#!/usr/bin/env bash
# Runs the commands on standard input, one per line, N at a time with one thread each; by default as many as cores.
#     benchmark/figure7.sh --seeds 1,2,3 | benchmark/local.sh --workers 2
# A line `wait` is a barrier: what follows it starts when everything above has ended well. Each command writes to a log
# of its own in runs/logs. Ctrl-C (or SIGTERM) lets every run write its checkpoint and stop, a second one stops them at
# once, a third one kills; the same command line again goes on from there. Exit status: 0 if all ended well, 1 if one
# failed, 128 + signal if interrupted.
set -uo pipefail
set -m # every run in a process group of its own: Ctrl-C reaches this script, which passes it on

fail() { echo "error: $*" >&2; exit 2; }

workers=$(nproc)
while [ $# -gt 0 ]; do
    case $1 in
        --workers) workers=${2-} && shift ;;
        --workers=*) workers=${1#*=} ;;
        *) fail "$1: must be --workers N, with the commands on standard input" ;;
    esac
    [ $# -gt 0 ] && shift
done
[[ $workers =~ ^[1-9][0-9]*$ ]] || fail "--workers $workers: must be a whole number, at least 1"
[ ! -t 0 ] || fail "standard input: must be commands, one per line, as benchmark/figure7.sh prints them"
mapfile -t lines < <(grep -v -e '^[[:space:]]*$' -e '^#')
total=$(printf '%s\n' "${lines[@]}" | grep -c -v -x wait)
[ ${#lines[@]} -gt 0 ] || fail "standard input: must be commands, one per line, has none"
mkdir -p runs/logs || fail "runs/logs: must be a folder to write to"
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}

# Every run tells its number and exit status here when it has ended
pipe=$(mktemp -u)
mkfifo "$pipe"
exec 3<>"$pipe"
rm "$pipe"

names=() logs=() starts=() was_complete=() failures=() # the first four by the number of the run
started=0 ended=0 running=0 stopped=0 timed=0 seconds=0 signals=0 interrupted=0

say() { echo "[$(date +%T)] $*"; }

clock() { printf '%d:%02d:%02d' $(($1 / 3600)) $(($1 / 60 % 60)) $(($1 % 60)); }

stop() {
    interrupted=$1
    ((++signals == 1)) && say "stopping $running runs, each after its checkpoint; once more stops them at once"
    for group in $(jobs -p); do kill -$( ((signals > 2)) && echo KILL || echo TERM) -- "-$group" 2>/dev/null; done
    ((signals > 2)) && exit "$interrupted"
}
trap 'stop 130' INT
trap 'stop 143' TERM HUP

start() {
    local line=$1 n=$((++started)) run_dir=""
    [[ $line =~ --run-dir[=\ ]([^ ]+) ]] && run_dir=${BASH_REMATCH[1]}
    names[n]=${run_dir:-$line}
    logs[n]=runs/logs/$(tr -c 'A-Za-z0-9_.\n-' _ <<<"${names[n]#runs/}" | cut -c 1-150).$(cksum <<<"$line" | cut -d ' ' -f 1).log
    was_complete[n]=$([ -e "$run_dir/model.pt" ] && echo 1 || echo 0)
    starts[n]=$SECONDS
    ((++running))
    say "start $n/$total: ${names[n]}"
    (
        trap : INT TERM HUP # the run gets the signal too, and this waits for it
        (
            # The log stays locked as long as the run lives, so that a second launch does not write to the same folder.
            exec 9>>"${logs[n]}" </dev/null 3>&-
            flock --nonblock 9 || { echo "error: the run that this log is of has not ended" >&9; exit 2; }
            exec >&9 2>&1
            echo "# $(date '+%F %T') $line"
            exec bash -c "$line"
        )
        echo "$n $?" >&3
    ) &
}

# Waits for one run to end, and says how it did
reap() {
    local n status took left rest=0 about=""
    read -r n status <&3 || return # a signal came
    took=$((SECONDS - starts[n]))
    unset "starts[$n]"
    ((--running))
    if ((status == 0)); then
        ((++ended))
        ((was_complete[n])) || ((++timed, seconds += took)) # what was complete before tells no time
        left=$((total - ended - ${#failures[@]} - stopped))
        if ((timed && left)); then
            ((rest = seconds * left / timed))
            for x in "${starts[@]}"; do ((rest -= SECONDS - x)); done
            ((rest > 0)) || rest=0
            about=", about $(clock $((rest / (left < workers ? left : workers))))"
        fi
        say "ended $ended/$total in $(clock $took), $left left$about: ${names[n]}"
    elif ((interrupted && status > 128)); then
        ((++stopped))
        say "stopped after $(clock $took): ${names[n]}"
    else
        failures+=("$(echo "status $status: ${logs[n]} ends with" && tail -n 5 "${logs[n]}" | sed 's/^/    /')")
        say "failed with status $status after $(clock $took): ${names[n]}"
    fi
}

for line in "${lines[@]}"; do
    limit=$workers
    [ "$line" = wait ] && limit=1
    while ((running >= limit)); do reap; done
    ((interrupted)) && break
    if [ "$line" != wait ]; then start "$line"; elif ((${#failures[@]})); then break; fi
done
while ((running)); do reap; done

say "$ended of $total ended well, ${#failures[@]} failed, $stopped stopped, $((total - started)) not started"
((${#failures[@]})) && printf '%s\n' "${failures[@]}"
((interrupted)) && exit "$interrupted"
((${#failures[@]} == 0))

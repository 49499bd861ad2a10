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
((BASH_VERSINFO[0] * 100 + BASH_VERSINFO[1] >= 501)) || fail "bash $BASH_VERSION: must be 5.1 or newer"
[ ! -t 0 ] || fail "standard input: must be commands, one per line, as benchmark/figure7.sh prints them"
mapfile -t lines < <(grep -v -e '^[[:space:]]*$' -e '^#')
total=$(printf '%s\n' "${lines[@]}" | grep -c -v -x wait)
[ ${#lines[@]} -gt 0 ] || fail "standard input: must be commands, one per line, has none"
mkdir -p runs/logs || fail "runs/logs: must be a folder to write to"
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}

declare -A command_of log_of name_of started_at resumable # by process
failures=() running=0 started=0 ended=0 stopped=0 timed=0 seconds=0 interrupted=0

say() { echo "[$(date +%T)] $*"; }

clock() { printf '%d:%02d:%02d' $(($1 / 3600)) $(($1 / 60 % 60)) $(($1 % 60)); }

stop() {
    interrupted=$1 signal=TERM
    ((++stops == 1)) && say "stopping $running runs, each after its checkpoint; once more stops them at once"
    ((stops > 2)) && signal=KILL
    for process in $(jobs -p); do kill -$signal -- "-$process" 2>/dev/null; done
}
stops=0
trap 'stop 130' INT
trap 'stop 143' TERM HUP

start() {
    local line=$1 run_dir="" log name
    [[ $line =~ --run-dir[=\ ]([^ ]+) ]] && run_dir=${BASH_REMATCH[1]}
    name=${run_dir:-$line}
    log=$(tr -c 'A-Za-z0-9_.\n-' _ <<<"${name#runs/}" | cut -c 1-150).$(cksum <<<"$line" | cut -d ' ' -f 1).log
    log=runs/logs/$log
    (
        # The log is locked as long as the run lives, so that a second launch does not write to the same folder.
        exec 9>>"$log" </dev/null
        flock --nonblock 9 || { echo "error: this command is running already, see the log above" >&9; exit 2; }
        exec >&9 2>&1
        echo "# $(date '+%F %T') $line"
        exec bash -c "$line"
    ) &
    command_of[$!]=$line log_of[$!]=$log name_of[$!]=$name started_at[$!]=$SECONDS
    [ -e "$run_dir/model.pt" ] || resumable[$!]=yes
    ((++started, ++running))
    say "start $started/$total: $name"
}

# Waits for one run to end, and says how it did
reap() {
    local process status took left busy=0
    wait -n -p process
    status=$?
    [ -n "${process-}" ] || return # a signal came instead
    took=$((SECONDS - started_at[$process]))
    unset "started_at[$process]"
    ((--running))
    if ((status == 0)); then
        ((++ended))
        [ -n "${resumable[$process]-}" ] && ((++timed, seconds += took)) # what was complete before tells no time
        left=$((total - ended - ${#failures[@]} - stopped))
        for x in "${started_at[@]}"; do ((busy += SECONDS - x)); done
        busy=$((timed ? (seconds * left / timed - busy) / (left < workers ? (left ? left : 1) : workers) : 0))
        say "ended $ended/$total in $(clock $took), $left left$( ((timed && left)) && echo ", about" \
            "$(clock $((busy > 0 ? busy : 0)))"): ${name_of[$process]}"
    elif ((interrupted)); then
        ((++stopped))
        say "stopped after $(clock $took): ${name_of[$process]}"
    else
        failures+=("status $status: ${command_of[$process]}"$'\n'"    ${log_of[$process]} ends with"$'\n'"$(
            tail -n 5 "${log_of[$process]}" | sed 's/^/    | /')")
        say "failed with status $status after $(clock $took): ${name_of[$process]}"
    fi
}

for line in "${lines[@]}"; do
    limit=$([ "$line" = wait ] && echo 1 || echo "$workers")
    while ((running >= limit)); do reap; done
    ((interrupted)) && break
    [ "$line" = wait ] && { ((${#failures[@]})) && break || continue; }
    start "$line"
done
while ((running)); do reap; done

say "$ended of $total ended well, ${#failures[@]} failed, $stopped stopped, $((total - started)) not started"
printf '%s\n' "${failures[@]}"
((interrupted)) && exit "$interrupted"
((${#failures[@]} == 0))

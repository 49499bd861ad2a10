#!/usr/bin/env bash
# Runs the commands on standard input, one per line, N at a time with one thread each; by default as many as cores.
#     benchmark/figure7.sh --seeds 1,2,3 | benchmark/local.sh --workers 2
# A line `wait` is a barrier: what follows it starts when everything above has ended well. Each command writes to a log
# of its own in runs/logs. Ctrl-C (or SIGTERM) lets every run write its checkpoint and stop, a second one stops them at
# once, a third one kills; the same command line again goes on from there. Exit status: 0 if all ended well, 1 if one
# failed, 128 + signal if interrupted.
set -uo pipefail
if [ "${1-}" = -h ] || [ "${1-}" = --help ]; then
    sed -n '2,/^set/s/^# \{0,1\}//p' "$0"
    exit
fi
set -m # every run in a process group of its own: Ctrl-C reaches this script, which passes it on

fail() { echo "error: $*" >&2; exit 2; }

workers=$(env -u OMP_NUM_THREADS -u OMP_THREAD_LIMIT nproc) # which would take these for the number of cores
while [ $# -gt 0 ]; do
    case $1 in
        --workers) workers=${2-} ;;
        *) fail "$1: must be --workers N, with the commands on standard input" ;;
    esac
    shift $(($# > 1 ? 2 : 1))
done
[[ $workers =~ ^[1-9][0-9]*$ ]] || fail "--workers $workers: must be a whole number, at least 1"
[ ! -t 0 ] || fail "standard input: must be commands, one per line, as benchmark/figure7.sh prints them"
mapfile -t lines < <(sed -e 's/^[[:space:]]*//' -e 's/[[:space:]]*$//' -e '/^#/d' -e '/^$/d')
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}

# By line: the run's folder, or else the command; its log
names=() logs=() total=0
folder="--run-dir ([^[:space:]'\"\\]+)( |\$)" # one that is quoted may have blanks, and is not read
for i in "${!lines[@]}"; do
    line=${lines[i]} name=${lines[i]} key=$(cksum <<<"${lines[i]}")
    [ "$line" != wait ] && ((++total))
    if [[ $line =~ $folder ]]; then
        name=${BASH_REMATCH[1]}
        [[ $line =~ --variants\ ([^\ ]+)\ --seed\ ([0-9]+) ]] && name+=/${BASH_REMATCH[1]}/seed${BASH_REMATCH[2]} # gridworld
        ((${#name} <= 150)) && key=
    fi
    names[i]=$name
    logs[i]=runs/logs/$(tr -c 'A-Za-z0-9_.-' _ < <(printf %s "${name#runs/}") | cut -c 1-150)${key:+.${key% *}}.log
done
((total)) || fail "standard input: must be commands, one per line, has none"
mkdir -p runs/logs || fail "runs/logs: must be a folder to write to"

# From here on no command substitution: bash 5.2 cannot run a trap while it parses one. The trap only counts.
signals=0 interrupted=0
trap '((++signals)); interrupted=130' INT
trap '((++signals)); interrupted=143' TERM
trap '((++signals)); interrupted=129' HUP
trap : PIPE             # standard output may be gone before the runs are
exec 3<> <(:)           # nothing ever comes from here, so that reading it with a time limit waits without a process
processes=() starts=() sent=() fresh=() # of the runs that live, by line
failed=() started=0 ended=0 stopped=0 timed=0 seconds=0 said=0

say() { printf "[%(%T)T] $1\n" -1 "${@:2}"; }

clock() { printf -v "$1" '%d:%02d:%02d' $(($2 / 3600)) $(($2 / 60 % 60)) $(($2 % 60)); }

start() {
    local i=$1
    ((++started))
    say "start %d/%d: %s" $started $total "${names[i]}"
    fresh[i]=1 # what is complete already tells nothing about the time that runs take
    [ -e "${names[i]}/model.pt" ] && fresh[i]=0
    (
        # The log stays locked as long as the run lives, so that a second launch does not write to the same folder.
        exec 9>>"${logs[i]}" </dev/null 3>&-
        flock --nonblock 9 || { echo "error: the run that this log is of has not ended" >&9; exit 2; }
        exec >&9 2>&1
        printf '# %(%F %T)T %s\n' -1 "${lines[i]}"
        exec bash -c "${lines[i]}"
    ) &
    processes[i]=$! starts[i]=$SECONDS sent[i]=0
}

# Says how a run ended, of which no process is left
finish() {
    local i=$1 status took left rest=0 about="" x
    wait "${processes[i]}" 2>/dev/null
    status=$?
    ((x = SECONDS - starts[i]))
    clock took $x
    unset "processes[$i]" "starts[$i]"
    if ((status == 0)); then
        ((++ended, timed += fresh[i], seconds += fresh[i] * x, left = total - ended - stopped - ${#failed[@]}))
        if ((timed && left)); then
            ((rest = seconds * left / timed))
            for x in "${starts[@]}"; do ((rest -= SECONDS - x)); done
            clock rest $((rest > 0 ? rest / (left < workers ? left : workers) : 0))
            about=", about $rest"
        fi
        say "ended %d/%d in %s, %d left%s: %s" $ended $total "$took" $left "$about" "${names[i]}"
    elif ((interrupted && status > 128)); then
        ((++stopped))
        say "stopped after %s: %s" "$took" "${names[i]}"
    else
        failed[i]=$status
        say "failed with status %d after %s: %s" $status "$took" "${names[i]}"
    fi
}

# Passes signals on, one at a time, and sees which runs have ended
look() {
    local i signal
    if ((signals && !said)); then
        said=1
        say "stopping %d runs, each after its checkpoint; once more stops them at once" ${#processes[@]}
    fi
    for i in "${!processes[@]}"; do
        if ((sent[i] < signals)); then
            signal=TERM
            ((++sent[i] > 2)) && signal=KILL
            kill -$signal -- "-${processes[i]}" 2>/dev/null
        fi
        kill -0 -- "-${processes[i]}" 2>/dev/null || finish "$i"
    done
    ((${#processes[@]})) && read -r -t 0.2 -u 3
}

for i in "${!lines[@]}"; do
    limit=$workers
    [ "${lines[i]}" = wait ] && limit=1
    while ((${#processes[@]} >= limit)); do look; done
    ((signals)) && break
    if [ "${lines[i]}" != wait ]; then
        start "$i"
    else
        ((${#failed[@]})) && break
        timed=0 seconds=0 # the next stage is of other runs
    fi
done
while ((${#processes[@]})); do look; done

trap '' INT TERM HUP
say "%d of %d ended well, %d failed, %d stopped, %d not started" \
    $ended $total ${#failed[@]} $stopped $((total - started))
for i in "${!failed[@]}"; do
    echo "status ${failed[i]}: ${lines[i]}"
    echo "    ${logs[i]} ends with"
    tail -n 5 "${logs[i]}" | sed 's/^/    | /'
done
((interrupted)) && exit "$interrupted"
((ended == total))

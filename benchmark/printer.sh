# What the scripts that print commands share; they source it. Called with -h or --help, each shows its header.
for argument in "$@"; do
    if [ "$argument" = -h ] || [ "$argument" = --help ]; then
        sed -n '2,/^set/s/^# \{0,1\}//p' "$0"
        exit
    fi
done

fail() {
    echo "error: $*" >&2
    exit 2
}

# refuse "NAMES" WHY [ARGUMENT...]: fails if an argument has one of the names, with - or _ in it, with = or without
refuse() {
    local names=" $1 " why=$2 argument name
    shift 2
    for argument in "$@"; do
        name=${argument%%=*}
        name=${name//_/-}
        if [[ $names = *" $name "* ]]; then fail "$name: $why"; fi
    done
}

# distinct NAME "VALUES": fails if two values would share a folder; in its name _ stands for / and :
distinct() {
    local value seen=" "
    for value in ${2//,/ }; do
        value=${value//[\/:]/_}
        if [[ $seen = *" $value "* ]]; then fail "$1 $2: must be different names of folders, has $value twice"; fi
        seen+="$value "
    done
}

# quoted [ARGUMENT...]: the arguments as bash reads them, a blank before each
quoted() {
    if [ $# -gt 0 ]; then printf ' %q' "$@"; fi
}

# check_tasks "TASKS", check_seeds "SEEDS": fail unless these are names or numbers, and different ones
check_tasks() {
    local task
    for task in ${1//,/ }; do
        [[ $task =~ ^[[:alnum:]][[:alnum:]_.:/-]*$ ]] || fail "--tasks $1: must be names of tasks, separated by commas"
    done
    distinct --tasks "$1"
}

check_seeds() {
    local seed
    for seed in ${1//,/ }; do
        [[ $seed =~ ^(0|[1-9][0-9]*)$ ]] || fail "--seeds $1: must be whole numbers, separated by commas"
    done
    distinct --seeds "$1"
}

# Completion of kemarictl(1) for bash: installed as bash-completion/completions/kemarictl. Words come
# from the program's own --help, so that they are never out of step with it.

# What the lines of --help begin with: verbs of "Verbs:", or options of the other lists.
_kemarictl_verbs() {
    "${COMP_WORDS[0]}" --help 2>/dev/null | awk '/^Verbs:/ { on = 1; next } /^$/ { on = 0 } on { print $1 }'
}

_kemarictl_options() {
    "${COMP_WORDS[0]}" "$@" --help 2>/dev/null |
        awk '/ptions:$/ { on = 1; next } /^$/ { on = 0 }
             on { for (i = 1; i <= 2; i++) { sub(",", "", $i); if ($i ~ /^-/) print $i } }'
}

_kemarictl_machines() {
    local directory=${KEMARI_RUN_DIR:-/run/kemari} socket
    for socket in "$directory"/*.sock; do
        [ -S "$socket" ] && basename "$socket" .sock
    done
}

# The verb among the words before the cursor, stepping over the values of global options.
_kemarictl_verb() {
    local i
    for ((i = 1; i < COMP_CWORD; i++)); do
        case ${COMP_WORDS[i]} in
        -s | -m | -r | --socket | --machine | --run-dir) i=$((i + 1)) ;;
        -*) ;;
        *) echo "${COMP_WORDS[i]} $i" && return ;;
        esac
    done
}

_kemarictl() {
    local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]} verb= at=0 words=
    read -r verb at <<<"$(_kemarictl_verb)"
    case $previous in
    -m | --machine) words=$(_kemarictl_machines) ;;
    -s | --socket | --svg | check | doctor | secret)
        mapfile -t COMPREPLY < <(compgen -f -- "$current")
        return
        ;;
    -r | --run-dir | --state-dir | certificates)
        mapfile -t COMPREPLY < <(compgen -d -- "$current")
        return
        ;;
    --since | --term | --count | --seconds | --peer | --need) return ;;
    esac
    if [ -n "$words" ]; then
        :
    elif [ -z "$verb" ]; then
        words="$(_kemarictl_verbs) $(_kemarictl_options)"
    elif [[ $current == -* ]]; then
        words=$(_kemarictl_options "$verb")
    else
        case $verb:$((COMP_CWORD - at)):$previous in
        config:1:*) words=check ;;
        drill:1:*) words='list run report' ;;
        drill:2:run) words=$("${COMP_WORDS[0]}" drill list 2>/dev/null | awk '{ print $1 }') ;;
        drill:2:report) words=all ;;
        keygen:1:*) words='secret certificates' ;;
        policy:1:*) words='get set' ;;
        policy:*) words='policy= interval= window= max-interval= staging-cap= dirty-budget=' ;;
        esac
    fi
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
    [[ ${COMPREPLY[0]-} == *= ]] && compopt -o nospace 2>/dev/null
    return 0
}

complete -F _kemarictl kemarictl

# Shared by the shell scripts here: one way to show steps, and how long they took. Sourced, not run.

now_ms() { echo $(($(date +%s%N) / 1000000)); }

# seconds MILLISECONDS: as text with one decimal.
seconds() { printf '%d.%d s' $(($1 / 1000)) $(($1 % 1000 / 100)); }

# heading TEXT: begin a section.
heading() { printf '\n== %s\n' "$*"; }

# fail TEXT: one line that says what is missing and what to do; exit status 2.
fail() {
    printf '%s\n' "$*" >&2
    exit 2
}

# quietly TITLE COMMAND...: run with the output in build/log; show the title, the duration, and the output only if it fails.
quietly() {
    title=$1
    shift
    mkdir -p build/log
    log=build/log/$(printf '%s' "$title" | tr -cs 'a-zA-Z0-9' '-').log
    printf '   %s ... ' "$title"
    began=$(now_ms)
    if "$@" >"$log" 2>&1 </dev/null; then
        printf '%s\n' "$(seconds $(($(now_ms) - began)))"
    else
        status=$?
        printf 'failed after %s\n' "$(seconds $(($(now_ms) - began)))"
        tail -n 20 "$log" >&2
        fail "$title failed (exit status $status); all of its output is in $log"
    fi
}

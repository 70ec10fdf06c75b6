#!/bin/sh
# Counts what the system is really asked for, with strace: how many fdatasync and fsync a workflow costs. An engine that
# opens a log and closes it costs some, too; what is compared with the counts of the log is the difference to that.
# Usage: tests/flushes.sh [path of the one_run binary]
set -eu
run=${1:-${CARGO_TARGET_DIR:-target}/debug/one_run}
if ! command -v strace >/dev/null 2>&1; then
    echo "SKIPPED: strace is not installed, so nothing was counted" >&2
    exit 0
fi
directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT

# syncs DIRECTORY WORKFLOW: prints how many syncs the run asked for, then how many the log counted.
syncs() {
    "$run" "$1" none >/dev/null # the log exists, so that making it is not counted
    counted=$(strace -f -qq -o "$directory/trace" -e trace=fdatasync,fsync "$run" "$1" "$2")
    echo "$(grep -cE '(fdatasync|fsync)\(' "$directory/trace") $counted"
}

none=$(syncs "$directory/none" none)
none=${none% *}
status=0
for workflow in "one 2" "three 4"; do
    most=${workflow#* }
    workflow=${workflow% *}
    found=$(syncs "$directory/$workflow" "$workflow")
    asked=$((${found% *} - none))
    echo "$workflow task(s) in a row: $asked syncs (the log counted ${found#* }), at most $most"
    if [ "$asked" -lt "${found#* }" ] || [ "$asked" -gt "$most" ] || [ "${found#* }" -gt "$most" ]; then
        echo "FAILED: $workflow" >&2
        status=1
    fi
done
exit $status

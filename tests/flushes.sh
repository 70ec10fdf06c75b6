#!/bin/sh
# Counts the fdatasync and fsync calls of a workflow with strace, and compares them with the log's own count. The calls
# of an engine that only opens and closes a log are subtracted.
# Usage: tests/flushes.sh [path of the one_run binary]
set -eu
run=${1:-${CARGO_TARGET_DIR:-target}/debug/one_run}
if ! command -v strace >/dev/null 2>&1; then
    echo "SKIPPED: strace is not installed, so nothing was counted" >&2
    exit 0
fi
directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT

# syncs DIRECTORY WORKFLOW: prints the number of sync calls of the run, then the count of the log.
syncs() {
    "$run" "$1" none >/dev/null # create the log first, so that its creation is not counted
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
    echo "chain of $workflow: $asked syncs (the log counted ${found#* }), at most $most"
    if [ "$asked" -lt "${found#* }" ] || [ "$asked" -gt "$most" ] || [ "${found#* }" -gt "$most" ]; then
        echo "FAILED: $workflow" >&2
        status=1
    fi
done
exit $status

#!/usr/bin/env bash
# Counts the instructions of finding that one file of many changed, under callgrind, and fails where a file costs more than
# the limit or where twice the files cost more than twice as much. Counts do not depend on what else the machine does.
#
#   benches/instructions.sh GROWTH      the program of the bench "growth", as cargo built it
set -euo pipefail

growth=$(realpath "${1:?the growth program}")
limit=20000
command -v valgrind >/dev/null || { echo "instructions: no valgrind: apt-get install valgrind" >&2; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

instructions() {
    (cd "$work" && valgrind --tool=callgrind --callgrind-out-file=out "$growth" "$@") >"$work/log" 2>&1 || {
        cat "$work/log" >&2
        exit 1
    }
    sed -n 's/^\(totals\|summary\): //p' "$work/out" | head -1
}

# What comes before the comparison, which every run does the same way, is taken off.
small=$(($(instructions walk 2000) - $(instructions edit 2000)))
large=$(($(instructions walk 4000) - $(instructions edit 4000)))
echo "$((small / 2000)) instructions for each of 2000 files, $((large / 4000)) of 4000"
[ "$small" -gt 0 ] || { echo "instructions: nothing was counted" >&2; exit 1; }
[ $((large / 4000)) -le $limit ] || { echo "instructions: more than $limit for a file" >&2; exit 1; }
[ $((large * 10)) -le $((small * 22)) ] || { echo "instructions: twice the files cost more than twice as much" >&2; exit 1; }

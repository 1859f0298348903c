#!/usr/bin/env bash
# How the cost of a whole build grows with its commands, with the size of a layer, and with the files of its context. Prints a
# row of seconds for each, and the largest peak of memory. The parts on their own are in the bench "growth".
#
#   benches/growth.sh BINARY [runs|layer|context...]
#
# BENCH_DIRECTORY is where everything is kept meanwhile (25 GB for the largest layer; /var/tmp if not set).
set -euo pipefail

binary=$(realpath "${1:?the crabwright binary}")
shift
parts=("$@")
[ $# -gt 0 ] || parts=(runs layer context)
state=${CRABWRIGHT_TEST_STATE:-/var/tmp/crabwright-peers}
[ -r "$state/env" ] || { echo "growth: the registry is not there: run tests/setup" >&2; exit 1; }
base=$(sed -n 's/^CRABWRIGHT_TEST_REGISTRY=//p' "$state/env")/conformance/base:1
work=$(mktemp -d "${BENCH_DIRECTORY:-/var/tmp}/crabwright-growth.XXXXXX")
trap 'rm -rf "$work"' EXIT

# Builds the context, and adds the seconds to the row.
build() {
    local name=$1 start
    start=$(date +%s.%N)
    /usr/bin/time -f %M -o "$work/peak" "$binary" --context "dir://$work/context" --dockerfile "$work/context/Dockerfile" \
        --isolation namespace --work-dir "$work/work" --no-push --insecure --insecure-pull >"$work/log" 2>&1 || {
        cat "$work/log" >&2
        exit 1
    }
    printf ' %s: %.2f s (%d MB)' "$name" "$(echo "$(date +%s.%N) - $start" | bc)" "$(($(cat "$work/peak") / 1024))"
}

fresh() {
    rm -rf "$work/context"
    mkdir "$work/context"
    echo "FROM $base" >"$work/context/Dockerfile"
}

runs() {
    local count number
    for count in 1 10 50 100 200; do
        fresh
        for number in $(seq "$count"); do echo "RUN echo $number >/file$number" >>"$work/context/Dockerfile"; done
        build "$count"
    done
}

# The shell's program over and over: content that compresses as programs do.
layer() {
    local megabytes
    for megabytes in 1 10 100 1000 10000; do
        fresh
        # shellcheck disable=SC2028 # it is for the Dockerfile
        echo "RUN size=\$(busybox stat -c %s /bin/busybox); left=\$(($megabytes * 1000000 / size)); \\
            while [ \$left -ge 0 ]; do busybox cat /bin/busybox; left=\$((left - 1)); done >/large" >>"$work/context/Dockerfile"
        build "$megabytes MB"
    done
}

context() {
    local count
    for count in 100 1000 10000 100000; do
        fresh
        mkdir "$work/context/files"
        (cd "$work/context/files" && seq "$count" | split -l 1 -a 6 -d --additional-suffix=.txt)
        echo "COPY files /files" >>"$work/context/Dockerfile"
        build "$count"
    done
}

for part in "${parts[@]}"; do
    printf '%s:' "$part"
    "$part"
    echo
done

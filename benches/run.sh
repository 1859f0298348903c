#!/usr/bin/env bash
# Builds the same Dockerfiles with crabwright and with Debian's buildah, side by side on this machine, and prints the
# seconds (the median of the rounds) and their ratio. Both start cold, pull the base from the tests' registry and push there.
#
#   benches/run.sh BINARY [ROUNDS]
set -euo pipefail

binary=$(realpath "${1:?the crabwright binary}")
rounds=${2:-3}
state=${CRABWRIGHT_TEST_STATE:-/var/tmp/crabwright-peers}
[ -r "$state/env" ] || { echo "bench: the registry is not there: run tests/setup" >&2; exit 1; }
registry=$(sed -n 's/^CRABWRIGHT_TEST_REGISTRY=//p' "$state/env")
base=$(sed -n 's/^CRABWRIGHT_TEST_DEBIAN=//p' "$state/env")
command -v buildah >/dev/null || { echo "bench: no buildah: apt-get install buildah" >&2; exit 1; }

work=$(mktemp -d /var/tmp/crabwright-bench.XXXXXX)
trap 'rm -rf "$work"' EXIT

# small-steps: many small RUNs, where unpacking and comparing the root file system is the cost
mkdir "$work/small-steps"
{
    echo "FROM $base"
    for i in 1 2 3 4 5 6 7 8 9 10; do echo "RUN echo $i > /file-$i"; done
} >"$work/small-steps/Dockerfile"

# large-layer: one RUN that leaves about 400 MB, where packing, hashing, compressing and pushing is the cost
mkdir "$work/large-layer"
cat >"$work/large-layer/Dockerfile" <<D
FROM $base
RUN mkdir /data && cd /data && cp -a /usr/lib/x86_64-linux-gnu one && cp -a /usr/lib/x86_64-linux-gnu two && cp -a /usr/bin three && dd if=/dev/urandom of=random bs=1M count=200
D

with_crabwright() {
    "$binary" --context "dir://$work/$1" --dockerfile "$work/$1/Dockerfile" --isolation namespace --work-dir "$work/crabwright" \
        --destination "$registry/bench/$1-crabwright:$2" --insecure --insecure-pull
    rm -rf "$work/crabwright"
}

with_buildah() {
    local storage=(--root "$work/buildah" --runroot "$work/buildah-run")
    # limits stay as they are: raising them is not allowed everywhere
    buildah "${storage[@]}" bud --isolation chroot --layers --no-cache --tls-verify=false --ulimit nofile=1024:1024 \
        -t "$registry/bench/$1-buildah:$2" "$work/$1"
    buildah "${storage[@]}" push --tls-verify=false "$registry/bench/$1-buildah:$2"
    buildah "${storage[@]}" rm --all >/dev/null
    buildah "${storage[@]}" rmi --all --force >/dev/null
}

# The median of the wall times. Every round pushes something new: each build's times differ.
seconds() {
    local builder=$1 scenario=$2 round start times=()
    for round in $(seq "$rounds"); do
        start=$(date +%s.%N)
        "with_$builder" "$scenario" "$round" >"$work/log" 2>&1 || { cat "$work/log" >&2; echo "bench: $builder failed" >&2; exit 1; }
        times+=("$(echo "$(date +%s.%N) - $start" | bc)")
    done
    printf '%s\n' "${times[@]}" | sort -n | sed -n "$(((rounds + 1) / 2))p"
}

printf '%-14s %12s %12s %8s\n' scenario crabwright buildah ratio
for scenario in small-steps large-layer; do
    ours=$(seconds crabwright "$scenario")
    theirs=$(seconds buildah "$scenario")
    printf '%-14s %10.2f s %10.2f s %7.2fx\n' "$scenario" "$ours" "$theirs" "$(echo "scale=4; $theirs / $ours" | bc)"
done

#!/usr/bin/env bash
# Builds the same contexts with crabwright, with Debian's buildah and with docker's classic builder, side by side on this
# machine, and prints seconds (the median of the rounds), the ratios to crabwright, and crabwright's peak memory. Each build
# starts cold, pulls its base from the tests' registry and pushes there.
#
#   benches/run.sh BINARY [ROUNDS [SCENARIO...]]
#
# Everything is kept in a file system made for it meanwhile: an ext4 with a journal, as nodes have, in a sparse file below
# BENCH_DIRECTORY (/var/tmp if not set), where it takes 12 GB at most. docker gets an engine of its own there, so that all
# work on the same disk. BENCH_TMPFS=1 makes it a tmpfs instead: no disk at all. BENCH_PEERS names the other builders: "buildah docker", or
# empty for none. BENCH_BEFORE names another crabwright binary, such as the last release: it is measured as one more peer. In each
# round every builder has its turn, so that what the machine does meanwhile meets them all, and each second round goes backwards:
# a builder that comes after another finds the base in memory. BENCH_PAUSE is the rest in seconds
# before each build (2).
set -euo pipefail

here=$(dirname "$(realpath "$0")")
binary=$(realpath "${1:?the crabwright binary}")
rounds=${2:-3}
shift $(($# < 2 ? $# : 2))
scenarios=("$@")
[ $# -gt 0 ] || scenarios=(s1 s2 s3 s4 s5 s6)
state=${CRABWRIGHT_TEST_STATE:-/var/tmp/crabwright-peers}
[ -r "$state/env" ] || { echo "bench: the registry is not there: run tests/setup" >&2; exit 1; }
registry=$(sed -n 's/^CRABWRIGHT_TEST_REGISTRY=//p' "$state/env")
debian=$(sed -n 's/^CRABWRIGHT_TEST_DEBIAN=//p' "$state/env")
read -ra peers <<<"${BENCH_PEERS-buildah docker}"
before=
if [ -n "${BENCH_BEFORE-}" ]; then
    before=$(realpath "$BENCH_BEFORE")
    [ -x "$before" ] || { echo "bench: BENCH_BEFORE=$BENCH_BEFORE is not a program" >&2; exit 1; }
fi
for peer in "${peers[@]}"; do
    command -v "$peer" >/dev/null || { echo "bench: no $peer: install it, or leave it out of BENCH_PEERS" >&2; exit 1; }
done

[ "$(id -u)" = 0 ] || { echo "bench: it mounts a file system: run it as root" >&2; exit 1; }

place=$(mktemp -d "${BENCH_DIRECTORY:-/var/tmp}/crabwright-bench.XXXXXX")
work=$place/disk
engine=
finish() {
    if [ -n "$engine" ]; then
        kill "$engine" && wait "$engine" || true
    fi
    umount --recursive "$work" 2>/dev/null || umount --recursive --lazy "$work" || true
    rm -rf "$place"
}
trap finish EXIT
mkdir "$work"
if [ -n "${BENCH_TMPFS-}" ]; then
    mount -t tmpfs -o size=20G bench "$work"
else
    truncate -s 40G "$place/image"
    mkfs.ext4 -q -F "$place/image"
    mount -o loop "$place/image" "$work"
fi
manifest='Accept: application/vnd.oci.image.manifest.v1+json'
curl -sf -o /dev/null -H "$manifest" "http://$registry/v2/fat/manifests/1" || "$here/base" "$binary" "$registry" "$debian"
"$here/contexts" "$work" "$debian" "$registry/fat:1"

socket=unix://$work/docker.sock
case " ${peers[*]} " in *" docker "*)
    # as the tests' engine: no bridge, no packet filter
    dockerd --data-root "$work/docker" --exec-root "$work/docker-run" --pidfile "$work/docker.pid" -H "$socket" --bridge=none \
        --iptables=false --ip6tables=false --oom-score-adjust=0 >"$place/docker.log" 2>&1 &
    engine=$!
    for _ in $(seq 60); do
        ! docker -H "$socket" version >/dev/null 2>&1 || break
        sleep 1
    done
    docker -H "$socket" version >/dev/null || { cat "$place/docker.log" >&2; exit 1; }
    ;;
esac

with_crabwright() {
    built_by crabwright "$binary" "$@"
}

with_before() {
    built_by before "$before" "$@"
}

# built_by NAME PROGRAM SCENARIO ROUND
built_by() {
    /usr/bin/time -f %M -o "$work/peak-$1" "$2" --context "dir://$work/$3" --dockerfile "$work/$3/Dockerfile" \
        --isolation namespace --work-dir "$work/$1" --destination "$registry/bench/$3-$1:$4" \
        --insecure --insecure-pull
}

with_buildah() {
    local storage=(--root "$work/buildah" --runroot "$work/buildah-run")
    # limits stay as they are: raising them is not allowed everywhere
    buildah "${storage[@]}" bud --isolation chroot --layers --no-cache --tls-verify=false --ulimit nofile=1024:1024 \
        -t "$registry/bench/$1-buildah:$2" "$work/$1"
    buildah "${storage[@]}" push --tls-verify=false "$registry/bench/$1-buildah:$2"
}

with_docker() {
    DOCKER_BUILDKIT=0 docker --host "$socket" build --no-cache --pull -t "$registry/bench/$1-docker:$2" "$work/$1"
    docker --host "$socket" push "$registry/bench/$1-docker:$2"
}

# What a builder leaves is removed after the clock has stopped; crabwright leaves nothing.
clean() {
    case $1 in
    buildah)
        buildah --root "$work/buildah" --runroot "$work/buildah-run" rm --all
        buildah --root "$work/buildah" --runroot "$work/buildah-run" rmi --all --force
        ;;
    docker)
        docker --host "$socket" rmi --force "$registry/bench/$2-docker:$3" "$debian" "$registry/fat:1"
        docker --host "$socket" image prune --force
        ;;
    esac >/dev/null 2>&1 || true
}

# One build; how long it took is added to BUILDER.times. Every round pushes something new: each build's times differ.
measure() {
    local builder=$1 scenario=$2 round=$3 start
    sleep "${BENCH_PAUSE:-2}"
    start=$(date +%s.%N)
    "with_$builder" "$scenario" "$round" >"$work/log" 2>&1 || {
        cat "$work/log" >&2
        echo "bench: $builder failed" >&2
        exit 1
    }
    echo "$(date +%s.%N) - $start" | bc >>"$work/$builder.times"
    clean "$builder" "$scenario" "$round"
}

median() {
    sort -n "$work/$1.times" | sed -n "$(((rounds + 1) / 2))p"
}

[ -z "$before" ] || peers=(before "${peers[@]}")
printf '%-9s %12s %10s' scenario crabwright peak
for peer in "${peers[@]}"; do printf ' %22s' "$peer"; done
echo
for scenario in "${scenarios[@]}"; do
    rm -f "$work"/*.times
    forwards=(crabwright "${peers[@]}")
    backwards=($(printf '%s\n' "${forwards[@]}" | tac))
    for round in $(seq "$rounds"); do
        builders=("${forwards[@]}")
        ((round % 2)) || builders=("${backwards[@]}")
        for builder in "${builders[@]}"; do measure "$builder" "$scenario" "$round"; done
    done
    ours=$(median crabwright)
    printf '%-9s %10.2f s %7d MB' "$scenario" "$ours" "$(($(cat "$work/peak-crabwright") / 1024))"
    for peer in "${peers[@]}"; do
        theirs=$(median "$peer")
        printf ' %10.2f s (%6.2fx)' "$theirs" "$(echo "scale=4; $theirs / $ours" | bc)"
    done
    echo
done

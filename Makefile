# make demo    the program at work with nothing but a Rust toolchain: no registry, no network
# make image   the executor's image, built by the program itself: target/executor.tar (crabwright:dev)
# make image-debug   the same with a shell: target/debug.tar (crabwright:debug)
# make test    everything: unit, integration and end-to-end tests (root, Debian; starts its own peers)
# make bench   the scenarios side by side with Debian's buildah and docker's classic builder; the parts on their own
# make growth  how a build's cost grows with its commands, a layer's size, the files of its context (25 GB of disk)
# make instructions    what finding changes costs, counted under callgrind
# make archives    the reader of archives against those of others, ARCHIVES random ones
# make faults  every system call of own-root's exchange made to fail, and the executor killed at it, in containers (hours), or FAULTS of them
# make graphs  GRAPHS random Dockerfiles of many stages, each built in several ways in both sandboxes: one image for each
# make fuzz    arbitrary input to all that reads bytes of others, FUZZ_SECONDS for each target (nightly Rust)
# make fuzz-smoke    the same in a minute for all of them together, as CI does it
# make deny    licences, sources, versions and advisories of all crates (installs cargo-deny)
# make cache-fuzz    random projects and edits, built with the cache and without: CACHE_FUZZ_SECONDS, or CACHE_FUZZ_DOCKERFILES of them,
#              from CACHE_FUZZ_SEED on (the test run has a short one; needs the peers of make test)
# make check   what needs neither root nor peers: unit tests, the tests of imports and pages, and the demo (PROFILE=dev)
# make dist    the release in target/dist: binary, images, manual page, completions, licences, notes, checksums (docs/releasing.md)
# make dist-check    what a release contains, tried with PROFILE=dev
# make fmt, make lint, make clean-peers

# PROFILE=dev makes `image` and `demo` quick to build and slow to run
PROFILE ?= release
TARGET  := x86_64-unknown-linux-gnu
BUILT   := target/$(TARGET)/$(if $(filter dev,$(PROFILE)),debug,release)
BINARY  := $(BUILT)/crabwright
CARGO   ?= cargo
# The CA bundle that goes into the image beside the roots inside the binary; none where the machine has none.
CERTIFICATES ?= $(firstword $(wildcard /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt /etc/ssl/cert.pem))
# The shell of the debug image.
BUSYBOX ?= $(firstword $(wildcard /bin/busybox /usr/bin/busybox))
# Files of the images carry the time of the last commit, so that the same sources give the same digest.
EPOCH := $(shell git log -1 --format=%ct 2>/dev/null || echo 1700000000)

ARCHIVES ?= 50000
GRAPHS ?= 300
FAULTS ?= all
FUZZ_SECONDS ?= 600
# The targets to run, of src/fuzzing.rs; all of them without a name.
FUZZ_TARGETS ?=
# Two at a time, they take a minute on two processors. They begin at the same place: a change is judged by what it changes.
SMOKE_SECONDS ?= 5

# Where a release goes.
DIST ?= target/dist

CACHE_FUZZ_SECONDS ?= 600
export CACHE_FUZZ_SECONDS

.PHONY: all build demo image image-debug executor-tree shell-tree test peers bench growth instructions graphs archives fuzz fuzz-smoke cache-fuzz deny faults fmt lint clean-peers check dist dist-check sources-committed
all: build

# What is built: the program, or for `make test` all that tests need, with the crates compiled once.
CRATE_TARGETS ?= --bin crabwright

build:
	$(CARGO) build --locked --profile $(PROFILE) $(CRATE_TARGETS)

# What Dockerfile.executor copies: owners and modes are said here, whatever the umask of the checkout.
executor-tree: build
	rm -rf target/images/executor
	install -d -m 0755 target/images/executor target/images/executor/etc
	install -d -m 0777 target/images/executor/kaniko target/images/executor/kaniko/.docker
	install -d -m 0755 target/images/executor/kaniko/ssl target/images/executor/kaniko/ssl/certs
	install -m 0755 $(BINARY) target/images/executor/kaniko/executor
	ln -s executor target/images/executor/kaniko/warmer
	printf 'hosts: files dns\n' > target/images/executor/etc/nsswitch.conf
	chmod 0644 target/images/executor/etc/nsswitch.conf
	$(if $(CERTIFICATES),install -m 0644 $(CERTIFICATES) target/images/executor/kaniko/ssl/certs/ca-certificates.crt)
	find target/images/executor -exec touch -h -d @$(EPOCH) {} +

shell-tree:
	@if [ -z "$(BUSYBOX)" ]; then echo "image-debug: no busybox here: apt-get install busybox-static, or name a static one with BUSYBOX=" >&2; exit 1; fi
	@if LC_ALL=C ldd $(BUSYBOX) >/dev/null 2>&1; then echo "image-debug: $(BUSYBOX) is not static: apt-get install busybox-static" >&2; exit 1; fi
	rm -rf target/images/shell
	install -d -m 0755 target/images/shell target/images/shell/bin target/images/shell/busybox
	install -m 0755 $(BUSYBOX) target/images/shell/busybox/busybox
	for name in $$($(BUSYBOX) --list); do [ $$name = busybox ] || ln -s busybox target/images/shell/busybox/$$name; done
	ln -s /busybox/sh target/images/shell/bin/sh
	find target/images/shell -exec touch -h -d @$(EPOCH) {} +

# WORKDIR makes its directory now: its time, too, becomes that of the commit.
BUILD_IMAGE := $(BINARY) --context dir://$(CURDIR)/target/images --dockerfile $(CURDIR)/Dockerfile.executor \
    --build-arg SOURCE_DATE_EPOCH=$(EPOCH) --reproducible --work-dir target/work --no-push

image: executor-tree
	$(BUILD_IMAGE) --target executor --destination crabwright:dev --tar-path target/executor.tar

image-debug: executor-tree shell-tree
	$(BUILD_IMAGE) --target debug --destination crabwright:debug --tar-path target/debug.tar

demo: executor-tree
	rm -rf target/demo
	mkdir -p target/demo
	cp -R testdata/demo target/demo/context
	rustc --edition 2024 -O --target $(TARGET) -C target-feature=+crt-static -C strip=symbols \
	    -o target/demo/context/worker testdata/demo/worker.rs
	@echo "== the executor's image, built by the executor"
	$(BUILD_IMAGE) --target executor --oci-layout-path target/demo/executor --digest-file target/demo/executor.digest
	@echo "== an image whose RUN steps execute in the sandbox"
	$(BINARY) --context dir://$(CURDIR)/target/demo/context --work-dir target/work \
	    --no-push --oci-layout-path target/demo/app --digest-file target/demo/app.digest
	@for image in executor app; do printf '\ntarget/demo/%s  %s\n' $$image "$$(cat target/demo/$$image.digest)"; \
	    cat target/demo/$$image/index.json; echo; done

# Unit tests that give files to other users. `make test` runs them as root.
NEED_ROOT := sandbox::own_root::faults sandbox::own_root::swap executor::cache_mounts::archive::tests::everything_comes_back

# Tests that start no program but cargo and the one under test.
check:
	$(CARGO) test --locked --lib -- $(if $(filter 0,$(shell id -u)),,$(addprefix --skip ,$(NEED_ROOT)))
	$(CARGO) test --locked --test it -- floors:: links:: wording:: promises:: documents_
	$(MAKE) demo PROFILE=dev

sources-committed:
	release/refuse-changes

dist: sources-committed executor-tree shell-tree
	BINARY=$(BINARY) BUILD_IMAGE='$(BUILD_IMAGE)' release/build $(DIST)

dist-check:
	tests/dist

peers:
	tests/setup

# Tests read the images and the peers' addresses; nextest where it is installed, cargo's own runner elsewhere. The images hold the
# program that the other tests start.
test: peers
	$(MAKE) image image-debug PROFILE=dev CRATE_TARGETS=--tests
	if $(CARGO) nextest --version >/dev/null 2>&1; then $(CARGO) nextest run --locked --no-fail-fast; \
	    else $(CARGO) test --locked --no-fail-fast; fi

bench: build
	benches/run.sh $(BINARY)
	$(CARGO) bench --locked --bench micro

growth: build
	benches/growth.sh $(BINARY)

graphs: peers image-debug
	CRABWRIGHT_GRAPHS=$(GRAPHS) $(CARGO) test --locked --test it graphs:: -- --nocapture --test-threads=2

instructions:
	benches/instructions.sh $$($(CARGO) build --locked --release --bench growth --message-format json \
	    | sed -n 's/.*"executable":"\([^"]*growth[^"]*\)".*/\1/p')

archives:
	CRABWRIGHT_ARCHIVES=$(ARCHIVES) $(CARGO) test --locked --test it -- --show-output readers::

fuzz:
	fuzz/run $(FUZZ_SECONDS) $(FUZZ_TARGETS)

fuzz-smoke:
	FUZZ_SEED=20261121 fuzz/run $(SMOKE_SECONDS)

deny:
	tests/deny

# A part of this belongs to `make test`.
faults: peers image image-debug
	CRABWRIGHT_FAULTS=$(FAULTS) $(CARGO) test --locked --test it own_root_faults -- --nocapture
	$(CARGO) test --locked --lib own_root::faults -- --nocapture

cache-fuzz: peers
	$(CARGO) test --locked --test it -- --ignored --exact --nocapture cache_fuzz::for_as_long_as_one_likes

fmt:
	$(CARGO) fmt

# The documentation is for us, and has private items.
lint:
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings -A rustdoc::private_intra_doc_links' $(CARGO) doc --locked --no-deps --lib --document-private-items
	tests/spelling

clean-peers:
	tests/teardown --purge

# The verbs of this repository, the same at a desk and in CI. `make` lists them.

# Incremental builds fill disks and help only while one file changes; `make test CARGO_INCREMENTAL=1` has them.
export CARGO_INCREMENTAL ?= 0
# What `make run`, `make bench` and other verbs pass on.
ARGS ?=
# How many rounds `make crash-test` runs, and for how long `make fuzz` does.
ROUNDS ?= 10
SECONDS ?= 60
# For how long `make fault-test` makes faults, and the seed of one that is made again.
MINUTES ?= 5
SEED ?=

BUF_VERSION := 1.75.0
CYCLONEDX_VERSION := 0.5.9
# The platform whose dependencies `make sbom` lists.
SBOM_TARGET ?= x86_64-unknown-linux-gnu
TOOLS := target/tools
# The installed buf, if there is one; else one that npm fetches into target/.
BUF := $(or $(shell command -v buf),$(TOOLS)/node_modules/.bin/buf)
# The commit of the newest release, as CHANGELOG.md has it: its contracts are what may not be broken.
RELEASE := $(shell sed -n 's/^\#\# .*[(, ]commit \([0-9a-f]*\)).*/\1/p' CHANGELOG.md | head -n 1)
# The services whose tables Citus can distribute.
CITUS := send receiver

.DEFAULT_GOAL := help
.PHONY: help run test lint fmt proto bench image image-tar sbom chart cluster-test mesh crash-test test-clients fault-test fuzz \
	citus-plan release-before compose-test net

help: # lists the verbs
	@sed -n 's/^\([a-z-]*\):.* # /\1\t/p' $(MAKEFILE_LIST) | grep -v '^help' | expand -t 16

run: # builds and starts the server in ./data; ARGS="--data DIR …" for more
	cargo run --release --package flaghoist -- serve $(ARGS)

test: # every test, against real servers on free ports; end to end against one process and against a cluster
	@tests/backends/install
	@tests/mesh/install || echo "tests/mesh leaves out what needs these" >&2
	@if [ -n "$$CI" ]; then $(MAKE) --no-print-directory release-before; fi
	cargo test --workspace
	@if tests/backends/install --check; then \
		set -x; FLAGHOIST_TEST_WORLD=cluster cargo test --workspace --test e2e; \
	elif [ -n "$$CI" ]; then \
		echo "the cluster cannot be tested" >&2; exit 1; \
	else \
		echo "LEFT OUT: the tests against a cluster" >&2; \
	fi

lint: # format, clippy, rustdoc and the contracts; warnings are errors
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps
	charts/table --check
	vendor/update --check
	@$(MAKE) --no-print-directory proto

fmt: $(BUF) # formats Rust and the contracts
	cargo fmt --all
	$(BUF) format proto --path proto/flaghoist --write

# buf's own clone goes back fifty commits and no further. A clone without history may lint the rest, away from CI.
define BREAKING
if git cat-file -e '$(RELEASE)^{commit}'; then \
	git archive --format=tar $(RELEASE) proto | "$(BUF)" breaking proto --against '-#format=tar,subdir=proto'; \
elif [ -n "$$CI" ]; then \
	echo "the release before, commit $(RELEASE), is not in this clone: git fetch --unshallow gets it" >&2; exit 1; \
else \
	echo "LEFT OUT: buf breaking: commit $(RELEASE) is not in this clone" >&2; \
fi;
endef

# Away from CI a machine without npm may lint the rest.
proto: # checks the contracts, and that they break nothing that was released
	@if [ -x "$(BUF)" ] || $(MAKE) --no-print-directory $(BUF); then \
		set -ex; \
		"$(BUF)" lint proto; \
		$(if $(RELEASE),$(BREAKING)) \
	elif [ -n "$$CI" ]; then \
		echo "buf is needed and cannot be had" >&2; exit 1; \
	else \
		echo "skipped: the contracts are not checked, install buf or npm for that" >&2; \
	fi

BENCH := cargo run --release --quiet --package flaghoist-tests --bin bench --

bench: # the figures of one machine in tests/README.md; ARGS="sends --online" measures one, ARGS=--help lists them, those of a cluster too
ifeq ($(strip $(ARGS)),)
	$(BENCH) floor
	$(BENCH) sends
	$(BENCH) sends --online
	$(BENCH) end-to-end
	$(BENCH) idle-streams
	$(BENCH) idle-streams --per-connection 100
	$(BENCH) one-caller
	$(BENCH) startup
	$(BENCH) refresh
	$(BENCH) tokens id-token
	$(BENCH) tokens client-credentials
	$(BENCH) tokens introspection
	$(BENCH) tokens jwks
	$(BENCH) logins
	$(BENCH) beside-logins
	$(BENCH) login-timing
	$(BENCH) history
else
	$(BENCH) $(ARGS)
endif

crash-test: # kills the server ROUNDS=10 times under load and checks the promises
	cargo run --package flaghoist-tests --bin crash_test -- --rounds $(ROUNDS)

test-clients: # a first conversation from Python, Go and a browser, and OAuth clients of others; ARGS="--target HOST:PORT go" for a server that runs
	tests/clients/run $(ARGS)

citus-plan: # prints what distributes the tables over Citus, and checks that every hot statement names its shard
	@cat $(CITUS:%=services/%/migrations/citus.sql)
	@# Cargo is content where no test has the name; here each service must have some.
	@set -e; for service in $(CITUS); do \
		tests=$$(cargo test --quiet --package flaghoist-$$service --lib citus_ -- --list); \
		case $$tests in *": test"*) ;; *) echo "no test of flaghoist-$$service is called citus_…" >&2; exit 1 ;; esac; \
	done
	cargo test --quiet $(CITUS:%=--package flaghoist-%) --lib citus_

fault-test: # kills, freezes and cuts off parts of a cluster for MINUTES=5 and checks the promises; SEED=… makes the same decisions
	@tests/backends/install
	cargo run --package flaghoist-tests --bin fault_test -- --minutes $(MINUTES) $(if $(SEED),--seed $(SEED))

mesh: # writes the table of methods that the mesh configuration is made from: istio/files/methods.yaml
	cargo run --quiet --package flaghoist-tests --bin mesh > istio/files/methods.new
	mv istio/files/methods.new istio/files/methods.yaml

release-before: # builds the newest release beside this version, once, for the test that runs both in one cluster
	cargo run --package flaghoist-tests --bin build_release

image: # the image of all services, flaghoist:local; ARGS="--build-arg BUILD_IMAGE=…" where no public registry is reached
	docker build --tag flaghoist:local $(ARGS) .

sbom: # what the program is made of, as CycloneDX: target/sbom/flaghoist.cdx.json
	@command -v cargo-cyclonedx >/dev/null || [ -x $(TOOLS)/bin/cargo-cyclonedx ] || \
		cargo install --locked --root $(TOOLS) cargo-cyclonedx --version $(CYCLONEDX_VERSION)
	@mkdir -p target/sbom
	PATH="$(CURDIR)/$(TOOLS)/bin:$$PATH" SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct) cargo cyclonedx --quiet \
		--manifest-path services/flaghoist/Cargo.toml --format json --spec-version 1.5 --target $(SBOM_TARGET) \
		--describe binaries --no-build-deps
	@# Where it was made is nobody's business, and would differ from machine to machine.
	sed 's#file://$(CURDIR)#file://#g' services/flaghoist/flaghoist_bin.cdx.json >target/sbom/flaghoist.cdx.json
	@# It writes one for the programs of the tests too.
	@find . -name '*_bin.cdx.json' -not -path './target/*' -delete

# The release of a static program; PROFILE=dev is ready sooner.
PROFILE ?= release
TARGET := $(shell uname -m)-unknown-linux-gnu

image-tar: # the same image without Docker: target/flaghoist.tar, of OCI and docker form; IMAGE=NAME:TAG names it
	RUSTFLAGS="-C target-feature=+crt-static" cargo build --locked --package flaghoist --profile $(PROFILE) --target $(TARGET)
	services/flaghoist/image-tar target/flaghoist.tar $(or $(IMAGE),flaghoist:local) \
		"$${CARGO_TARGET_DIR:-target}/$(TARGET)/$(PROFILE:dev=debug)/flaghoist" $(if $(filter aarch64-%,$(TARGET)),arm64,amd64)

# FLAGHOIST_TEST_LOAD_IMAGE says how an image gets into the cluster that KUBECONFIG names; tests/README.md has the rest.
cluster-test: # installs the chart into the cluster that KUBECONFIG names and asks it everything; ARGS="--only access"
	@tests/backends/install
	@tests/mesh/install
	FLAGHOIST_TEST_CLUSTER=1 cargo test --package flaghoist-tests --test cluster $(if $(filter release,$(PROFILE)),--release) -- $(ARGS)

chart: # checks the Helm chart: documents, lint, every set of values rendered, what must be refused, the alerts
	charts/check

compose-test: # brings compose.yaml up, talks while everything in it is killed in turn, and takes it down
	tests/compose/test

net: # who talks to whom among what runs here, per process and peer; ARGS="--seconds 30"
	@tests/compose/net $(ARGS)

fuzz: # feeds bytes to what parses them, for SECONDS=60
	cargo run --release --package flaghoist-tests --bin fuzz -- --seconds $(SECONDS)

$(TOOLS)/node_modules/.bin/buf:
	npm install --prefix $(TOOLS) --no-save --no-audit --no-fund @bufbuild/buf@$(BUF_VERSION)

# make repo   build 2026.1 for this machine's Debian into repo/
# make test   everything: lint, unit tests, the repository, nodes
# Both install what they need on a fresh Debian 12 (as root, or with sudo).

SHELL = /bin/bash
.SHELLFLAGS = -euo pipefail -c
.DELETE_ON_ERROR:

SERIES = 2026.1
PYTHON = /usr/bin/python3
BIN = .venv/bin
SUDO = $(if $(filter 0,$(shell id -u)),,sudo)

# Needed to build (with the headers that recipes in projects/ name), and to test.
TOOLS = apt-utils binutils ca-certificates debhelper dpkg-dev gcc gnupg gpgv libc6-dev libcap-dev \
	libpcre2-dev libpython3-dev libssl-dev libvirt-dev mmdebstrap patch pkg-config python3 python3-dev \
	python3-venv sudo xz-utils zlib1g-dev zstd
TEST_TOOLS = buildah curl ethtool iproute2 iputils-ping lintian locales man-db mmdebstrap openssh-client procps \
	systemd-container unzip util-linux

.PHONY: repo suites old-series upgrade-series newest-target test test-unit test-acceptance prove proven lint format tools test-tools bench clean

repo: tools
	$(BIN)/build-debs $(SERIES)

# Builds and unit tests wait a good part of their time, each for something else.
test: lint
	$(MAKE) --jobs 2 test-unit suites
	$(MAKE) test-acceptance

lint: test-tools
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy --python-version 3.10 builder/payload/openstack_node

test-unit: test-tools
	$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder

# Left to `make prove`, with the tests marked `proof`: what takes hours, or is also proven another way.
PROVEN_ONLY = $(addprefix test_,$(addsuffix .py,adopt debian documents ocata pike puppet slurp tempest upgrade))

# Each suite is built once and shared by all. Nodes need root.
test-acceptance: test-tools suites
	$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder --durations 40 -m 'not proof' \
		tests/node tests/acceptance $(addprefix --ignore tests/node/,$(PROVEN_ONLY))

# One after another, however many jobs make has.
suites: tools
	$(MAKE) --jobs 1 repo old-series upgrade-series newest-target

# No package index has Ocata's keystone and glance: BUILD_DEBS_TARBALLS is a folder with both.
OCATA = $(if $(BUILD_DEBS_TARBALLS),--tarballs $(BUILD_DEBS_TARBALLS),$(addprefix --project ,cinder neutron nova))

old-series: tools
	$(BIN)/build-debs pike
	$(BIN)/build-debs ocata $(OCATA)

# The series before $(SERIES): what a node is upgraded from.
upgrade-series: tools
	$(BIN)/build-debs 2025.2 --project cinder --project keystone

# The newest Debian.
newest-target: tools
	$(BIN)/build-debs $(SERIES) --target trixie

# Tests too long for every run: all of tests/prove/cells.toml (hours), or make prove CELL=tempest.
# Passes are recorded in docs/proven.md; `make proven` shows which rows are stale.
prove: test-tools
	$(BIN)/python tests/prove/prove.py $(CELL)

proven: test-tools
	@$(BIN)/python tests/prove/prove.py --state

bench: test-tools repo old-series
	$(PYTHON) benchmarks/packages.py
	$(BIN)/python benchmarks/root.py
	$(BIN)/python benchmarks/publish.py
	$(SUDO) $(PYTHON) benchmarks/install.py

tools: .venv/tools
test-tools: .venv/test-tools

.venv/tools: Makefile pyproject.toml
	@$(call debian_packages,$(TOOLS))
	@echo 'build-debs itself, into .venv'
	@test -x $(BIN)/pip || $(PYTHON) -m venv .venv
	@$(BIN)/pip install --quiet --editable .
	@touch $@

.venv/test-tools: .venv/tools
	@$(call debian_packages,$(TEST_TOOLS))
	@echo 'what the tests need, into .venv'
	@$(BIN)/pip install --quiet --editable '.[dev]'
	@touch $@

# Install the packages of a list that are missing, without sudo if none are. Prints one line per
# package. sudo passes no variables on, so debconf's is set after it.
define debian_packages
missing=$$(for p in $(1); do \
		dpkg-query -W -f '$${db:Status-Status}' $$p 2>/dev/null | grep -qx installed || echo $$p; \
	done); \
	if [ -n "$$missing" ]; then \
		echo "Debian packages: $$(echo $$missing)"; \
		$(SUDO) apt-get update -qq; \
		$(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -qqy --no-install-recommends \
			-o Dpkg::Use-Pty=0 $$missing | sed -un 's/^Setting up/  set up/p'; \
	fi
endef

format:
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv build *.egg-info repo/dists repo/pool repo/*.asc repo/*.sh repo/*.sources

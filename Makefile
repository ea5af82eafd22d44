# Everything runs in the project's own virtual environment, which is made and refreshed as needed:
#
#   make demo     two processes exchange real data, checked and measured
#   make test     all tests but those marked soak, on two CPUs; MARKS="" runs everything, WORKERS=4 takes four
#   make test-pythons   CPython's own queue tests against shmring's queues, with each Python from 3.10 on that is installed
#   make models   check the Spin models of the protocols, all sizes and mutants (needs spin and gcc)
#   make bench    measure, in at most 12 minutes, and write docs/benchmarks.md, its pictures and docs/report/results.json
#   make fuzz     damage rings under everybody who uses them; MUTATIONS=10000000 and SEED=1 set how much
#   make soak     everything at once with random kills, for HOURS=8, and a report in build/soak; then the other long tests
#   make deaths   kill and stop participants in every state that any of their instructions leaves behind
#   make lint     ruff, and mypy on the types that users see
#   make asan     the tests with modules that the address and undefined-behaviour sanitizers check
#   make aarch64  the contract tests under qemu-user, with Debian's Python for arm64
#   make docs     the documentation as a site in build/site; any warning is an error
#   make debug    the tests again, with the kernel's own assertions compiled in
#   make clean    remove what was built
#
# PYTHON chooses the interpreter. A change of a source that is compiled is built in before anything runs.

PYTHON ?= python3
HOURS ?= 1
MUTATIONS ?= 10000000
SEED ?= 1
MARKS ?= not soak
WORKERS ?= 2
SHMRING_DEBUG ?= 0

VENV := .venv
BIN := $(VENV)/bin
SOURCES := pyproject.toml setup.py $(wildcard shmring/*.pyx shmring/*.pxd shmring/codecs/*.pyx shmring/_core/*.pxd shmring/include/shmring/*.h)
BUILT := $(VENV)/built-debug$(SHMRING_DEBUG)

export SHMRING_DEBUG

.PHONY: build demo test test-pythons models bench docs fuzz soak deaths lint debug asan aarch64 clean
.DELETE_ON_ERROR:

build: $(BUILT)

# What building needs comes first, so that building needs no environment of its own; the package itself once, editable.
$(VENV)/installed: pyproject.toml setup.py
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip 'setuptools>=77' wheel 'cython>=3.1' 'numpy>=2'
	$(BIN)/python -m pip install --quiet --no-build-isolation --editable '.[test,bench]'
	rm -f $(VENV)/built-*
	touch $@

# From then on only what changed is compiled again; all of it when the assertions come or go.
$(BUILT): $(VENV)/installed $(SOURCES)
	$(BIN)/python setup.py -q build_ext --inplace $(if $(wildcard $(BUILT)),,$(if $(wildcard $(VENV)/built-*),--force))
	rm -f $(VENV)/built-*
	touch $@

demo: $(BUILT)
	$(BIN)/python -m shmring demo

test: $(BUILT)
	$(BIN)/python -m pytest -m "$(MARKS)" --numprocesses $(WORKERS) --dist loadfile

test-pythons: $(BUILT)
	$(BIN)/python tests/pythons/run.py

models:
	$(PYTHON) models/run.py

# The others to compare with, one by one: what cannot be installed here is reported as missing. Slow and large ones come
# from nowhere but here, so that the tests do without.
PEERS := pyzmq faster-fifo iceoryx2 msgq-ipc membridge kickmsg eclipse-zenoh uvloop pyaeron

$(VENV)/peers: $(VENV)/installed
	for peer in $(PEERS); do $(BIN)/python -m pip install --quiet --only-binary :all: $$peer || echo "without $$peer" >&2; done
	touch $@

bench: $(BUILT) $(VENV)/peers
	$(BIN)/python -m bench --docs docs
	-$(BIN)/python docs/img/report_screens.py docs/report/results.json

# What only the site needs is installed when it is first made.
$(VENV)/docs: $(VENV)/installed
	$(BIN)/python -m pip install --quiet 'mkdocs>=1.6,<2' 'mkdocs-material>=9.5' 'mkdocstrings[python]>=1'
	touch $@

docs: $(BUILT) $(VENV)/docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

fuzz: $(BUILT)
	$(BIN)/python tests/fuzz/campaign.py --mutations $(MUTATIONS) --seed $(SEED)

soak: $(BUILT)
	$(BIN)/python tests/programs/soak.py --hours $(HOURS)
	SHMRING_SOAK_HOURS=$(HOURS) $(BIN)/python -m pytest -m soak --timeout 0

deaths: $(BUILT)
	$(BIN)/python tests/faults/stepping --verbose --json deaths.json

lint: $(BUILT)
	$(BIN)/python -m ruff check .
	$(BIN)/python -m mypy --strict shmring/__init__.pyi tests/rules/typed_user.py

asan: $(BUILT)
	$(BIN)/python tests/programs/asan_suite.py

aarch64: $(BUILT)
	$(BIN)/python tests/programs/aarch64_suite.py

debug:
	$(MAKE) test SHMRING_DEBUG=1

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	rm -f shmring/*.c shmring/*.so shmring/codecs/*.c shmring/codecs/*.so
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

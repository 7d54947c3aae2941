# The doors, one verb each, the same for developers and CI:
#
#   make build    compile in place          make lint     ruff, cython-lint
#   make debug    the same with asserts     make types    mypy
#   make test     build, run the tests      make fuzz     random bytes, with asserts
#   make serve    build, serve the demo     make bench    measure (see bench/)
#   make wheels   build, install and test a wheel for each Python that is here
#   make soak     build, restart workers under load, over TCP, a Unix socket and TLS
#   make autobahn build, run Autobahn's suite against a WebSocket echo server
#   make docs     write the site of docs/ to build/site; a broken link or anchor is an error
#
# Needs Python 3.11 or newer, a C compiler and pip. Tools come into a virtual environment of this folder, one for each
# version of Python: make test PYTHON=python3.13. A PYTHON given that already is of a virtual environment is used as it
# is. More arguments: make test ARGS="-k chunked". Builds of setup.py's other modes: make test FASTASGI_SANITIZE=1.

PYTHON ?= python3
ARGS ?=
HOST ?= 127.0.0.1
PORT ?= 8000
FUZZ_SECONDS ?= 60

# Its version, and whether it is of a virtual environment; nothing if it is too old.
ABOUT := $(shell $(PYTHON) -c 'import sys; v = sys.version_info; \
    v >= (3, 11) and print("%d.%d" % v[:2], sys.prefix != sys.base_prefix)')
ifeq ($(ABOUT),)
$(error PYTHON=$(PYTHON) is not a Python of version 3.11 or newer: name one that is)
endif

VENV := .venv-$(word 1,$(ABOUT))
PY := $(VENV)/bin/python
tools = $(VENV)/.have-$(1)
ifeq ($(origin PYTHON) $(word 2,$(ABOUT)),command line True)
PY := $(PYTHON)
tools =
endif

BUILD := $(PY) setup.py --quiet build_ext --inplace
RUN := $(PY)
ifdef FASTASGI_SANITIZE
# The sanitizer must come before everything else in the process; Python's own pools would hide errors from it. Its report
# goes to a file, because pytest keeps what a dying process says. FIND_LEAKS=1 also fails for memory that nothing points
# to at the end; not for tests that start a compiler or the like, which leak themselves.
SANITIZER_LOG := $(CURDIR)/build/sanitizer
RUN := rm -f $(SANITIZER_LOG).*; export LD_PRELOAD="$$($(or $(CC),cc) -print-file-name=libasan.so)" \
       PYTHONMALLOC=malloc \
       ASAN_OPTIONS=detect_leaks=$(or $(FIND_LEAKS),0):allocator_may_return_null=1:log_path=$(SANITIZER_LOG) \
       LSAN_OPTIONS=suppressions=$(CURDIR)/tests/leaks.supp:print_suppressions=0 \
       UBSAN_OPTIONS=print_stacktrace=1:log_path=$(SANITIZER_LOG); $(PY)
OR_REPORT := || { unset LD_PRELOAD; cat $(SANITIZER_LOG).*; exit 1; }
endif

ifdef FASTASGI_COVERAGE
RUN := $(PY) -m coverage run
REPORT = $(PY) -m coverage report
endif

.PHONY: build debug test lint types docs fuzz soak autobahn bench serve wheels clean

build: $(call tools,build)
	$(BUILD)

debug: $(call tools,build)
	FASTASGI_DEBUG=1 $(BUILD)

test: build $(call tools,test)
	$(RUN) -m pytest -m "not slow" $(ARGS) $(OR_REPORT)
	$(REPORT)

# A sanitized build has the asserts too.
fuzz: $(if $(FASTASGI_SANITIZE),build,debug) $(call tools,test)
	for target in tests/fuzz/fuzz_*.py; do \
	    ($(RUN) $$target --seconds $(FUZZ_SECONDS) $(ARGS)) $(or $(OR_REPORT),|| exit 1); \
	done

lint: $(call tools,lint)
	$(PY) -m ruff check .
	PATH="$(abspath $(dir $(PY))):$$PATH" cython-lint fastasgi

types: $(call tools,lint) $(call tools,build)
	$(PY) -m mypy

docs: $(call tools,docs)
	NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --quiet --strict $(ARGS)

soak: build $(call tools,test)
	for over in tcp unix tls; do $(PY) tests/rolling.py --over $$over $(ARGS) || exit 1; done

autobahn: build $(call tools,test)
	$(PY) tests/autobahn/run.py $(ARGS)

bench: build $(call tools,bench)
	$(PY) -m fastasgi.bench $(ARGS)

serve: build $(call tools,demo)
	$(PY) -m fastasgi examples.demo:app --host $(HOST) --port $(PORT) $(ARGS)

wheels:
	$(PYTHON) .ci/wheels.py $(ARGS)

clean:
	rm -rf build dist *.egg-info fastasgi/*.so fastasgi/*.pyd fastasgi/bench/*.so

# A stamp for each group of pyproject.toml's [dependency-groups]; pip learned --group in version 25.1.
$(VENV)/.have-%: pyproject.toml | $(VENV)/bin/python
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --group $*
	touch $@

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)
	$@ -m pip install --quiet --disable-pip-version-check --upgrade "pip>=25.1"

.PRECIOUS: $(VENV)/.have-%

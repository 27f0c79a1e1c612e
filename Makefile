# make demo | test | fast | lint | faults | fuzz | soak | audit | sbom | wheel: each works on a bare machine with Python >= 3.11 and make.
PYTHON ?= python3
BIN := .venv/bin
# Locked versions, everything installed; uv itself stays in the environment (--inexact keeps what the lock does not name).

.PHONY: demo test fast lint wheel faults fuzz soak install clean audit sbom

install: .venv/installed

.venv/installed: pyproject.toml uv.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "MLMM needs Python >= 3.11; say make PYTHON=python3.12, for example")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q --disable-pip-version-check "uv>=0.9,<1"
	UV_PROJECT_ENVIRONMENT=$(CURDIR)/.venv $(BIN)/uv sync -q --frozen --inexact --all-extras --all-groups
	touch $@

demo: install
	$(BIN)/mlmm demo

test: install
	$(BIN)/python -m pytest

fast: install ## what needs no service
	$(BIN)/python -m pytest -m "not integration"

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

faults: install ## services away, bad input, emitters without a broker; prints what was measured
	$(BIN)/python -m pytest -rP tests/faults

fuzz: install ## FUZZ_SECONDS=60 is a minute
	$(BIN)/python -m tests.fuzz --seconds $(or $(FUZZ_SECONDS),3600)

soak: install ## SOAK_SECONDS=28800 is a night: 1,000 kills, and no byte may differ from a replay
	SOAK_SECONDS=$(or $(SOAK_SECONDS),300) $(BIN)/python -m pytest -s tests/integration/exactness/test_soak.py

wheel: install
	$(BIN)/uv build

audit: install ## is anything locked known to be vulnerable? 0 no, 1 yes, 3 it could not be asked
	$(BIN)/python -m tests.security.audit

sbom: install ## what an installation with all extras brings, with digests: CycloneDX
	mkdir -p dist
	$(BIN)/uv export -q --frozen --all-extras --no-dev --format cyclonedx1.5 -o dist/sbom.json

clean:
	rm -rf .venv dist

# Everything a fresh machine with Python 3.11+ and git needs: `make demo`, `make test`.

PYTHON ?= python3
VENV := .venv
STAMP := $(VENV)/.installed

.PHONY: demo test check bench chaos reliability schemas clean

$(STAMP): pyproject.toml requirements.lock
	@if command -v uv >/dev/null 2>&1; then \
	    test -d $(VENV) || uv venv --quiet --python $(PYTHON) $(VENV); \
	    uv pip install --quiet --python $(VENV)/bin/python --requirement requirements.lock && \
	    uv pip install --quiet --python $(VENV)/bin/python --no-deps --no-build-isolation --editable .; \
	else \
	    test -d $(VENV) || $(PYTHON) -m venv $(VENV); \
	    $(VENV)/bin/python -m pip install --quiet --requirement requirements.lock && \
	    $(VENV)/bin/python -m pip install --quiet --no-deps --no-build-isolation --editable .; \
	fi
	@touch $(STAMP)

demo: $(STAMP)  ## The whole way, from a task file to a pushed branch, in under a minute
	@$(VENV)/bin/cloud-code demo

test: $(STAMP)  ## All tests (they wait more than they work: eight at once); what needs something absent is skipped
	@$(VENV)/bin/pytest -n 8 --dist load --maxschedchunk 1

check: $(STAMP)  ## Style, types, imports, generated files
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/mypy
	@$(VENV)/bin/pytest tests/unit/test_imports.py tests/unit/test_schemas.py

bench: $(STAMP)  ## The figures of docs/performance.md, measured here
	@$(VENV)/bin/python -m benchmarks

chaos: $(STAMP)  ## Killed at every step, ten minutes of random faults, random histories; SEED=n, SECONDS=n
	@CLOUD_CODE_TEST_THOROUGH=5 CLOUD_CODE_CHAOS_SEED=$(or $(SEED),$$(date +%s)) CLOUD_CODE_CHAOS_SECONDS=$(or $(SECONDS),600) \
	    $(VENV)/bin/pytest -n 2 --dist worksteal tests/chaos tests/integration/test_rebase.py tests/integration/test_hand_in_histories.py

reliability: $(STAMP)  ## Run what docs/reliability.md tells of, and write it anew; ONLY=section for one
	@$(VENV)/bin/python -m tests.reliability $(ONLY)

schemas: $(STAMP)  ## Write docs/schemas/ anew from the models
	@$(VENV)/bin/python -m supervisor.schemas docs/schemas

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache

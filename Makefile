# Two commands set everything up on a machine with Python 3.11-3.13 and make: `make demo` and `make test`.
PYTHON ?= python3
DEMO_ENV := .venv-demo
TEST_ENV := .venv
BEAM_ENV := .venv-beam
PIP := -m pip install --quiet --disable-pip-version-check

.PHONY: demo test slow slow-beam lint clean

demo: $(DEMO_ENV)/.ready
	$(DEMO_ENV)/bin/mizoo demo --out demo.png

test: $(TEST_ENV)/.ready
	$(TEST_ENV)/bin/python -m pytest -n 2 --dist loadfile

slow: $(TEST_ENV)/.ready
	$(TEST_ENV)/bin/python -m pytest -m slow

slow-beam: $(BEAM_ENV)/.ready
	$(BEAM_ENV)/bin/python -m pytest --noconftest tests/beam

lint: $(TEST_ENV)/.ready
	$(TEST_ENV)/bin/ruff check .
	$(TEST_ENV)/bin/ruff format --check .
	$(TEST_ENV)/bin/mypy

$(DEMO_ENV)/.ready: setup.cfg pyproject.toml
	$(PYTHON) -m venv $(DEMO_ENV)
	@echo "Installing mizoo with its demo extra (about a minute) ..."
	$(DEMO_ENV)/bin/python $(PIP) -e ".[demo]"
	@touch $@

$(TEST_ENV)/.ready: setup.cfg pyproject.toml
	$(PYTHON) -m venv $(TEST_ENV)
	@echo "Installing mizoo with TensorFlow, JAX and the test tools (a few minutes) ..."
	$(TEST_ENV)/bin/python $(PIP) -e ".[dev]"
	@touch $@

# Beam holds back packages that TensorFlow and others take newer.
$(BEAM_ENV)/.ready: setup.cfg pyproject.toml
	$(PYTHON) -m venv $(BEAM_ENV)
	@echo "Installing mizoo with Apache Beam (a few minutes) ..."
	$(BEAM_ENV)/bin/python $(PIP) -e ".[beam]" pytest
	@touch $@

clean:
	rm -rf $(DEMO_ENV) $(TEST_ENV) $(BEAM_ENV) build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache

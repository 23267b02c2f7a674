# Two commands set everything up on a machine with Python 3.11-3.13 and make: `make demo` and `make test`.
PYTHON ?= python3
DEMO_ENV := .venv-demo
TEST_ENV := .venv
PIP := -m pip install --quiet --disable-pip-version-check

.PHONY: demo test slow slow-torch lint clean

demo: $(DEMO_ENV)/.ready
	$(DEMO_ENV)/bin/mizoo demo --out demo.png

test: $(TEST_ENV)/.ready
	$(TEST_ENV)/bin/python -m pytest -n 2 --dist loadfile

slow: $(TEST_ENV)/.ready
	$(TEST_ENV)/bin/python -m pytest -m slow

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

# What needs an environment of its own: PyTorch, and tensorflow-addons, which needs an old TensorFlow.
slow-torch:
	$(PYTHON) -m venv .venv-torch
	.venv-torch/bin/python $(PIP) -e . torch pytest scikit-learn pillow
	.venv-torch/bin/python -m pytest -m slow tests/test_fine_tuning.py -k pytorch -rs

clean:
	rm -rf $(DEMO_ENV) $(TEST_ENV) .venv-torch build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache

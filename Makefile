# Two commands set everything up on a machine with Python 3.11-3.13 and make: `make demo` and `make test`.
PYTHON ?= python3
DEMO_ENV := .venv-demo
TEST_ENV := .venv
REPORT_ENV := .venv-report
BEAM_ENV := .venv-beam
PIP := -m pip install --quiet --disable-pip-version-check

.PHONY: demo test slow slow-report slow-torch slow-addons slow-beam lint clean

demo: $(DEMO_ENV)/.ready
	$(DEMO_ENV)/bin/mizoo demo --out demo.png

test: $(TEST_ENV)/.ready
	$(TEST_ENV)/bin/python -m pytest -n 2 --dist loadfile

slow: $(TEST_ENV)/.ready
	$(TEST_ENV)/bin/python -m pytest -m "slow and not browser"

# The page of `mizoo report` in a browser: fails where there is no Chromium, its own or the system's.
slow-report: $(REPORT_ENV)/.ready
	$(REPORT_ENV)/bin/python -m pytest -m browser

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

$(REPORT_ENV)/.ready: setup.cfg pyproject.toml
	$(PYTHON) -m venv $(REPORT_ENV)
	@echo "Installing mizoo with the test tools and a browser (a few minutes) ..."
	$(REPORT_ENV)/bin/python $(PIP) -e ".[dev,browser]"
	@command -v chromium chromium-browser google-chrome || $(REPORT_ENV)/bin/python -m playwright install chromium
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

# What needs an environment of its own: PyTorch, and tensorflow-addons, which needs an old TensorFlow.
slow-torch:
	$(PYTHON) -m venv .venv-torch
	.venv-torch/bin/python $(PIP) -e . "keras>=3.15" torch pytest scikit-learn pillow
	KERAS_BACKEND=torch .venv-torch/bin/python -m pytest -m slow tests/test_fine_tuning.py -k pytorch -rs

slow-addons: $(TEST_ENV)/.ready
	python3.11 -m venv .venv-addons
	.venv-addons/bin/python $(PIP) tensorflow-cpu==2.15.1 tensorflow-addons==0.23.0 "typeguard<3"
	$(TEST_ENV)/bin/mizoo export simclr_cifar10 --out .venv-addons/exported > .venv-addons/manifest.json
	.venv-addons/bin/python tests/addons/with_tensorflow_addons.py .venv-addons/exported/saved_model

clean:
	rm -rf $(DEMO_ENV) $(TEST_ENV) $(REPORT_ENV) $(BEAM_ENV) .venv-torch .venv-addons build dist *.egg-info
	rm -rf .pytest_cache .ruff_cache .mypy_cache

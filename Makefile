# Every target but gpu makes its own .venv from a plain python3 (3.11 or newer).
PYTHON ?= python3
PIP_ARGS ?=
WHEELS ?=
BIN := .venv/bin
OLDEST := .venv-oldest/bin

.PHONY: demo test lint unit test-oldest test-slow gpu docs bench clean

demo: .venv/ready
	$(BIN)/numerai-features demo

test: lint .venv-oldest/ready
	$(MAKE) --jobs=2 half other-half

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/codespell numerai_features tests docs benchmarks examples *.md

unit: .venv/ready
	$(BIN)/python -m pytest

# scikit-learn 1.6.1, the version on Numerai's servers.
test-oldest: .venv-oldest/ready
	$(OLDEST)/python -m pytest tests/test_common.py tests/compose tests/metrics tests/model_selection tests/trees

# unit and test-oldest in two halves that take about as long. The other half prints
# only how it ended, or all if it failed.
OTHERS := tests/cli tests/datasets tests/experiment tests/export tests/nn tests/tournament
LOG := .venv-oldest/log
.PHONY: half other-half others
half: .venv/ready
	$(BIN)/python -m pytest $(OTHERS:%=--ignore=%)
others: .venv/ready
	$(BIN)/python -m pytest $(OTHERS)
other-half: .venv/ready .venv-oldest/ready
	@$(MAKE) test-oldest others > $(LOG) 2>&1 || { cat $(LOG); exit 1; }
	@grep -E "passed|failed" $(LOG)

test-slow: .venv/ready .venv-oldest/ready
	$(BIN)/python -m pytest -m "slow or gpu"
	$(OLDEST)/python -m pytest tests/embedders

# Runs in PYTHON as it is, which has torch with CUDA; see CONTRIBUTING.
gpu:
	$(PYTHON) benchmarks/gpu.py $(if $(WHEELS),--wheels $(WHEELS))

docs: .venv/ready
	$(BIN)/pip install -q $(PIP_ARGS) -c constraints.txt -e '.[docs]'
	$(BIN)/sphinx-build -W -q -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"

bench: .venv/ready
	$(BIN)/python benchmarks/factor_analysis.py
	$(BIN)/python benchmarks/memory.py
	$(BIN)/python benchmarks/splitters.py
	$(BIN)/python benchmarks/leakage.py
	$(BIN)/python benchmarks/intervals.py
	$(BIN)/python benchmarks/fnc.py
	$(BIN)/python benchmarks/latents.py
	$(BIN)/python benchmarks/training.py
	$(BIN)/python benchmarks/training_memory.py
	$(BIN)/python benchmarks/recovery.py
	$(BIN)/python benchmarks/supervised.py
	$(BIN)/python benchmarks/supervised_latents.py
	$(BIN)/python benchmarks/era_mlp.py
	$(BIN)/python benchmarks/era_mlp.py --memory
	$(BIN)/python benchmarks/residual_target.py
	$(BIN)/python benchmarks/umap_embedder.py
	$(BIN)/python benchmarks/augmenters_memory.py
	$(BIN)/python benchmarks/augmenters.py
	$(BIN)/pip install -q $(PIP_ARGS) --no-deps numerblox==1.6.1
	$(BIN)/python benchmarks/ridge_mixture.py

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -q $(PIP_ARGS) -c constraints.txt -e '.[test,tune,peers,tensorboard]'
	touch $@

.venv-oldest/ready: pyproject.toml constraints-oldest.txt
	$(PYTHON) -m venv .venv-oldest
	$(OLDEST)/pip install -q $(PIP_ARGS) -c constraints-oldest.txt -e '.[test]'
	touch $@

clean:
	rm -rf .venv .venv-oldest docs/_build docs/api build *.egg-info

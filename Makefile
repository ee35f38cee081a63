# `make quickstart` and `make test` do everything from a fresh clone: environment, install, job.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: quickstart test test-avx2 lint bench browser clean

quickstart: $(INSTALLED)
	$(BIN)/arbench run quickstart

test: $(INSTALLED) lint browser
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --durations 12
	$(MAKE) test-avx2

# The numbers again with the instructions of processors without AVX-512, which round otherwise. Elsewhere than on x86 the
# libraries ignore these settings.
test-avx2: export ONEDNN_MAX_CPU_ISA = AVX2
test-avx2: export MKL_ENABLE_INSTRUCTIONS = AVX2
test-avx2: export ATEN_CPU_CAPABILITY = avx2
test-avx2: export OPENBLAS_CORETYPE = Haswell
test-avx2: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile -m numerical -p no:cacheprovider

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy -n 2

bench: $(INSTALLED)
	@for script in benchmarks/*.py; do echo "== $$script"; $(BIN)/python $$script || exit 1; done

$(INSTALLED): pyproject.toml setup.py constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "arbench needs Python 3.11 or newer; try make PYTHON=python3.12")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -qq --upgrade pip
	@echo "installing PyTorch and the rest: several GB, about four minutes"
	$(BIN)/python -m pip install -qq --constraint constraints.txt --editable '.[dev]'
	$(BIN)/python -m compileall -q arbench adapters  # where PYTHONDONTWRITEBYTECODE is set, each start would compile them
	touch $@

# The tests drive a real browser over the report. Debian and Ubuntu packages, when we may install them.
browser:
	@command -v chromium >/dev/null && command -v chromedriver >/dev/null || { \
	  if command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ]; then \
	    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium chromium-driver; \
	  else echo "the report's tests need chromium and chromedriver: apt-get install chromium chromium-driver"; fi; }

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

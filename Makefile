# make demo    install into .venv and run experiments/digits.py
# make test    install into .venv and run the tests
# make help    the other targets

PYTHON ?= python3
VENV   ?= .venv

BIN       := $(VENV)/bin
INSTALLED := $(VENV)/.installed
DOCUMENTS := $(VENV)/.documents
TRAINERS  := $(VENV)/.trainers
SELENIUM  := $(VENV)/.selenium
AXE       := $(VENV)/.axe

.PHONY: help install demo test lint types docs integrations browser bench clean
.DEFAULT_GOAL := help

help:
	@echo 'make install   create $(VENV) and install the package with the versions of constraints.txt'
	@echo 'make demo      run experiments/digits.py'
	@echo 'make test      run the tests (ARGS="-k asha" to choose some)'
	@echo 'make lint      ruff: rules and format'
	@echo 'make types     mypy --strict'
	@echo 'make docs      the site of docs/ and the docstrings, in build/docs'
	@echo 'make integrations  install Lightning, Hugging Face, accelerate, skorch and torchdata, and run the tests with them'
	@echo 'make browser   headless Chromium for the tests of pages, which are skipped without it'
	@echo 'make bench     measure the overhead against plain Ray Tune'
	@echo 'make clean     delete $(VENV) and the caches (never runs/)'
	@echo 'Another interpreter: make PYTHON=python3.12 install'

install: $(INSTALLED)

comma := ,

# uv where there is one or pip can get it: minutes become seconds. Otherwise pip alone, which compiles what it installs;
# uv has to be told, or whoever may not write there compiles Ray in every process of every run.
define install
	@if command -v uv >/dev/null; then uv=uv; \
	elif $(BIN)/python -m pip install --quiet --disable-pip-version-check uv; then uv='$(BIN)/python -m uv'; \
	else uv=; fi; \
	if [ -n "$$uv" ] && echo "$$uv pip install $(1)" \
	  && $$uv pip install --compile-bytecode --python $(BIN)/python $(1); then :; \
	else echo "pip install $(1)"; $(BIN)/python -m pip install --disable-pip-version-check $(1); fi
	@touch $@
endef

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("needs Python 3.11 or newer: make PYTHON=python3.12 ..." if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(call install,-e '.[dev]' -c constraints.txt)

$(DOCUMENTS): $(INSTALLED)
	$(call install,-e '.[docs]' -c constraints.txt)

demo: $(INSTALLED)
	$(BIN)/raytune-hpo run experiments/digits.py

test: $(INSTALLED)
	$(BIN)/python -m pytest -n 2 --dist worksteal $(ARGS)

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(INSTALLED)
	$(BIN)/mypy

# Whatever is not as it should be is an error, such as a link that leads nowhere or a page that no list has.
docs: $(DOCUMENTS)
	$(BIN)/sphinx-build --builder html --conf-dir docs/site --fail-on-warning --keep-going --fresh-env --quiet docs build/docs

integrations: $(TRAINERS)
	$(BIN)/python -m pytest tests/integrations $(ARGS)

$(TRAINERS): $(INSTALLED)
	$(call install,-e '.[dev$(comma)lightning$(comma)huggingface]' torchdata skorch -c constraints.txt)

# Debian's packages; elsewhere chromium and chromedriver by other means. axe-core without the package's own driver.
browser: $(SELENIUM) $(AXE)
	@command -v chromium >/dev/null && command -v chromedriver >/dev/null \
	|| { apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium chromium-driver; }

$(SELENIUM): $(INSTALLED)
	$(call install,selenium -c constraints.txt)

$(AXE): $(INSTALLED)
	$(call install,--no-deps axe-playwright-python -c constraints.txt)

bench: $(INSTALLED)
	$(BIN)/python benchmarks/overhead.py

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
	find raytune_hpo tests experiments benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

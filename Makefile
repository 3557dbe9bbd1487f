# `make demo` shows the whole job, `make test` checks everything, `make docs` builds the site. Each installs what it needs into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# A test process for every core; each works through its own half and then helps the other. WORKERS=0: one process.
WORKERS ?= logical
PYTEST := $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal
# Tests and demo fetch nothing, install nothing by themselves and leave the user's own Ultralytics settings alone.
# What Python compiles is kept, whatever the machine says: else every process compiles tests and package anew.
QUIET := YOLO_OFFLINE=1 YOLO_AUTOINSTALL=false YOLO_CONFIG_DIR=$(CURDIR)/$(VENV)/config MPLBACKEND=Agg PYTHONDONTWRITEBYTECODE=

.PHONY: demo test quick lint browser docs wheel clean

demo: $(VENV)/installed
	$(QUIET) $(BIN)/vanillayolo demo

test: lint browser
	$(QUIET) $(PYTEST)

# What a developer runs between two edits: everything but the tests that train, export or start processes.
quick: lint
	$(QUIET) $(PYTEST) -m "not slow" --hypothesis-profile quick

lint: $(VENV)/installed
	$(BIN)/ruff check src tests benchmarks examples docs
	$(BIN)/ruff format --check src tests benchmarks examples docs
	$(BIN)/mypy

# What the web page and the example in C++ are tested in. Without apt (as root), npm or a network those tests are skipped
# and say what they need.
PACKAGES := chromium nodejs npm g++ nlohmann-json3-dev
browser: $(VENV)/installed
	-@command -v chromium >/dev/null && command -v npm >/dev/null && command -v g++ >/dev/null && test -f /usr/include/nlohmann/json.hpp || \
	  { timeout 300 apt-get -qq update && timeout 300 apt-get -qq install -y --no-install-recommends $(PACKAGES) >/dev/null; }
	-@test -d $(VENV)/npm/node_modules/playwright-core || \
	  npm install --silent --no-save --prefix $(VENV)/npm playwright-core@1.65.1 >/dev/null
	-@VANILLAYOLO_CACHE=$(CURDIR)/$(VENV)/npm/cache timeout 120 $(BIN)/python -c "from vanillayolo.deploy.web import library; library()" 2>&1 | tail -1

# The site of docs/, into site/: without a network; a link that leads nowhere ends it.
docs: $(VENV)/installed
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

wheel: $(VENV)/installed
	$(BIN)/python -m build --wheel --no-isolation

# constraints.txt holds the versions that the figures were measured with.
$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("vanillayolo needs Python 3.10 or newer, this is " + sys.version.split()[0] if sys.version_info < (3, 10) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) build dist demo site .pytest_cache .mypy_cache .ruff_cache

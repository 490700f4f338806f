# Each target makes its own environment from nothing: no step comes before `make demo` or `make test`.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo trajectory transfer test test-slow test-browser check fix golden schemas docs wheel-check hooks-check npm-check fuzz clean

.venv/.ready: pyproject.toml constraints.txt tests/peers.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip -c constraints.txt
	$(BIN)/python -m pip install --quiet -e '.[dev]' -c constraints.txt
	$(BIN)/python -m pip install --quiet --no-deps -r tests/peers.txt -c constraints.txt
	touch $@

demo: .venv/.ready
	$(BIN)/saereg demo --out demo-out

# The examples: real releases in small, minutes each on two cores, without network.
trajectory: .venv/.ready
	PATH=$$PWD/$(BIN):$$PATH examples/trajectory/run.sh trajectory-out

transfer: .venv/.ready
	$(BIN)/python examples/transfer/transfer.py --out transfer-out

# Under eight minutes on two cores; the tests that take long by themselves are in `make test-slow`, `make check` runs all.
test: .venv/.ready
	$(BIN)/python -m pytest -m 'not slow'

test-slow: .venv/.ready
	$(BIN)/python -m pytest -m slow

check: .venv/.ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m saereg.schemas.export --check
	$(BIN)/python docs/generate.py --check
	$(BIN)/python -m pytest --durations=25

fix: .venv/.ready
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

golden: .venv/.ready
	$(BIN)/python tests/cases/plant.py

schemas: .venv/.ready
	$(BIN)/python -m saereg.schemas.export

# The user guide as pages that can be searched: every warning is an error, every link is followed.
docs: .venv/.ready
	$(BIN)/python -m pip install --quiet -e '.[docs]' -c constraints.txt
	$(BIN)/python docs/generate.py
	$(BIN)/sphinx-build -W --keep-going -n -q -j auto -d docs/_build/.doctrees docs docs/_build/html
	$(BIN)/python tests/docs/links_check.py
	@echo "docs/_build/html/index.html"

# The page of a release in a headless Chromium (Debian's, or SAEREG_CHROMIUM), and against axe-core, which npm installs;
# where one of them is absent and cannot be installed, it says so and passes.
test-browser: .venv/.ready
	$(BIN)/python -m pip install --quiet -e '.[browser]' -c constraints.txt
	sh tests/browser/install.sh
	$(BIN)/python -m pytest tests/browser/explorer_check.py tests/browser/accessible_check.py

demo-out/release/index.json: .venv/.ready
	$(BIN)/saereg demo --out demo-out

# The built wheel in an empty environment with base dependencies only, so without torch, on the demo's release.
wheel-check: demo-out/release/index.json
	rm -rf dist .venv-wheel wheel-out && $(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist .
	$(PYTHON) -m venv .venv-wheel
	.venv-wheel/bin/pip install --quiet -c constraints.txt dist/saereg-*.whl
	! .venv-wheel/bin/python -c 'import torch' 2>/dev/null
	.venv-wheel/bin/saereg validate demo-out/release --level header
	.venv-wheel/bin/saereg ls demo-out/release --where 'l0 <= 32' --sort -ev
	.venv-wheel/bin/saereg site demo-out/release -o wheel-out/site
	.venv-wheel/bin/saereg publish demo-out/release dir:wheel-out/release
	.venv-wheel/bin/python -c "import saereg; print(saereg.open('wheel-out/release').find(l0__lt=64).best('ev').id)"
	PATH=$$PWD/.venv-wheel/bin:$$PATH sh tests/ci/rehearse.sh demo-out/release wheel-out

# The hooks, installed by pre-commit from a clone of this tree, and the action: needs the package index, as make does.
hooks-check: .venv/.ready
	$(BIN)/python -m pytest tests/ci/hooks_check.py tests/ci/install_check.py

# The hub on this machine against the JavaScript client, which npm installs; where node is absent it says so and passes.
npm-check: .venv/.ready
	$(BIN)/python -m pytest tests/hub/npm_check.py

# Nightly: forty times the cases of `make check`, in which time and memory are looked at too.
fuzz: .venv/.ready
	SAEREG_FUZZ=$${SAEREG_FUZZ:-20000} $(BIN)/python -m pytest tests/fuzz

clean:
	rm -rf .venv .venv-wheel dist build docs/_build docs/_generated demo-out transfer-out trajectory-out wheel-out

# Each target makes .venv first where it is missing: nothing else is to be set up.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test mutants fuzz faults lint bench clean
demo: $(VENV)/.installed
	$(BIN)/python -m minunet demo --force

test: $(VENV)/.test
	$(BIN)/python -m pytest -q -n 2

# Plant errors in copies of the tree, and see that the tests find each: MUTANTS="--only pool", "--list", ...
mutants: $(VENV)/.test
	PYTHONPATH=tests $(BIN)/python -m mutants.run $(MUTANTS)

# Hostile files, and a million cases that nobody thought of: FUZZ="--seconds 60 --target model", "--atheris", ...
FUZZ := --seconds 1200
fuzz: $(VENV)/.test
	PYTHONPATH=tests $(BIN)/python -m fuzz.corpus
	PYTHONPATH=tests $(BIN)/python -m fuzz.run $(FUZZ)

# Kills, full disks, limits and clocks that jump, for ten minutes: FAULTS="--only kill", "--list", ...
faults: $(VENV)/.test
	PYTHONPATH=tests $(BIN)/python -m faults.run --seconds 600 $(FAULTS)

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/mypy -p minunet

# A quarter of an hour on two slow cores, on a machine that does nothing else; JSON in bench/out, bench/RESULTS.md, docs/bench.png.
OUT := bench/out
BIG := --config 4,256,16 --config 4,128,32 --config 1,512,64
bench: $(VENV)/.bench
	$(BIN)/python bench/roofline.py --json $(OUT)/roofline.json
	$(BIN)/python bench/tile.py --json $(OUT)/tile.json
	$(BIN)/python bench/train_step.py $(BIG) --repeat 3 --skip-reference --json $(OUT)/train_step.json
	$(BIN)/python bench/train_step.py --config 4,128,32 --skip-reference --isa avx2 --json $(OUT)/train_step_avx2.json
	$(BIN)/python bench/augment.py --json $(OUT)/augment.json
	$(BIN)/python bench/inference.py $(BIG) --repeat 5 --json $(OUT)/inference.json
	$(BIN)/python bench/conv.py --algorithm auto --algorithm direct --json $(OUT)/conv.json
	$(BIN)/python bench/accuracy.py --json $(OUT)/accuracy.json
	$(BIN)/python bench/memory.py $(BIG) --json $(OUT)/memory.json
	$(BIN)/python bench/startup.py --json $(OUT)/startup.json
	$(BIN)/python bench/scaling.py --json $(OUT)/scaling.json
	$(BIN)/python bench/check.py --json $(OUT)/check.json
	$(BIN)/python bench/results.py $(OUT) --markdown bench/RESULTS.md --figure docs/bench.png

$(VENV)/bin/python:
	@command -v $(PYTHON) > /dev/null || { echo "There is no $(PYTHON) here. Install Python 3.10 or later, or name it: make PYTHON=python3.12 ..."; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "minunet needs Python 3.10 or later; $(PYTHON) is older. Name another: make PYTHON=python3.12 ..."; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "$(PYTHON) could not make $(VENV). Where its venv module is missing (Debian, Ubuntu): apt-get install python3-venv"; exit 1; }

$(VENV)/.installed: setup.cfg pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/.test: setup.cfg pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	@touch $@ $(VENV)/.installed

$(VENV)/.bench: setup.cfg pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[bench]'
	@touch $@ $(VENV)/.installed

clean:
	rm -rf $(VENV) build dist *.egg-info

# Everything works from a bare Python 3.11: the environment is made when it is first needed.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo studio docs dist test test-slow fuzz check bench clean

demo: .venv/ready
	$(BIN)/ddim demo

# The page in the browser, at http://127.0.0.1:7860; STUDIO="runs/pets --port 8000" opens another model.
studio: .venv/ready-studio
	$(BIN)/ddim studio $(STUDIO)

# The documentation, into site/: open site/index.html. Strict: a broken link or a line of code that has gone ends it.
docs: .venv/ready-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

# The wheel and the sdist, into dist/.
dist: .venv/ready-test
	rm -rf dist
	$(BIN)/python -m build --outdir dist .

test: .venv/ready-test
	$(BIN)/python -m pytest -n 2

test-slow: .venv/ready-test
	$(BIN)/python -m pytest -m slow

# Odd and damaged input in bulk; FUZZ="checkpoints --every 10" runs a part, FUZZ="arguments --case 7" one case.
fuzz: .venv/ready-test
	PYTHONPATH=tests $(BIN)/python -m fuzz $(FUZZ)

check: .venv/ready-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# make bench OFFICIAL=folder also runs the official code, from a checkout of it.
bench: .venv/ready-test
	$(BIN)/python bench/startup.py
	$(BIN)/python bench/sampling.py $(if $(OFFICIAL),--official $(OFFICIAL))
	$(BIN)/python bench/training.py $(if $(OFFICIAL),--official $(OFFICIAL))

clean:
	rm -rf .venv build dist site *.egg-info src/*.egg-info .pytest_cache .ruff_cache

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/ready: .venv/bin/python pyproject.toml constraints.txt
	$(BIN)/pip install --quiet --constraint constraints.txt --editable .
	touch $@

.venv/ready-studio: .venv/ready
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[studio]"
	touch $@

.venv/ready-docs: .venv/ready
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[docs]"
	touch $@

.venv/ready-test: .venv/ready
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[test,dev]"
	touch $@

# Everything a developer runs. `make run` is the shortest way to a running server; `make test` is what CI runs.
#
# PYTHON=/path/to/python3.12 chooses the interpreter of .venv; else build/find_python.sh picks the fastest suitable one.

N ?= 250
ARGS ?=
VENV := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help setup setup-dev system-packages javascript clients run lint format docs lock binary test test-long crash bench clean

help:
	@echo 'make setup      make .venv with what the server needs'
	@echo 'make run        setup, then serve a demo with a simulated provider (ARGS="--port 8080")'
	@echo 'make test       everything that CI runs: lint, the binary, the tests'
	@echo 'make test-long  the tests that take minutes'
	@echo 'make javascript the packages that those tests use in JavaScript, and coding agents'
	@echo 'make clients    the Python libraries whose talk with the server they try'
	@echo 'make crash      kill the server N times under load (N=$(N)) and check every charge'
	@echo 'make bench      compare with a bare forwarder and with nginx, on this machine'
	@echo 'make binary     dist/dwctl: the whole program in one file'
	@echo 'make lint       ruff, mypy, import-linter'
	@echo 'make format     let ruff put the code in order'
	@echo 'make lock       pin the dependencies of pyproject.toml anew'
	@echo 'make docs       write the reference pages that are made from the code'
	@echo 'make clean      delete what the others have made'
	@echo
	@echo 'Made by those above when they need it: setup-dev (.venv with what developers need), system-packages (what the tests need)'

setup:
	@sh build/make_venv.sh requirements.lock

setup-dev:
	@sh build/make_venv.sh requirements-dev.lock

system-packages:
	@sh build/system_packages.sh

# What JavaScript in the tests imports, and the coding agents that they run.
javascript: .cache/javascript/node_modules

.cache/javascript/node_modules: tests/javascript/package-lock.json
	@sh build/system_packages.sh long
	@mkdir -p .cache/javascript && cp tests/javascript/*.json .cache/javascript
	@npm ci --prefix .cache/javascript --ignore-scripts --no-audit --no-fund --loglevel error
	@touch $@

# What the scripts in tests/clients import.
clients: .cache/clients/made

.cache/clients/made: tests/clients/requirements.lock
	@$$(sh build/find_python.sh) -m venv --clear .cache/clients
	@.cache/clients/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@touch $@

run: setup
	$(VENV)/python app.py serve --demo $(ARGS)

lint: setup-dev
	$(VENV)/ruff check .
	$(VENV)/ruff format --check .
	$(VENV)/mypy
	$(VENV)/lint-imports --no-logo

format: setup-dev
	$(VENV)/ruff check --fix .
	$(VENV)/ruff format .

docs: setup-dev
	$(VENV)/python -m build.reference

lock: setup-dev
	$(VENV)/python -m pip install --quiet --disable-pip-version-check uv
	$(VENV)/uv pip compile --quiet --universal --generate-hashes --python-version 3.11 pyproject.toml -o requirements.lock
	$(VENV)/uv pip compile --quiet --universal --generate-hashes --python-version 3.11 --extra dev -c requirements.lock pyproject.toml -o requirements-dev.lock
	$(VENV)/uv pip compile --quiet --universal --generate-hashes --python-version 3.11 tests/clients/requirements.in -o tests/clients/requirements.lock

binary: setup-dev
	$(VENV)/python -m build.binary
	$(VENV)/python -m build.measure dist/dwctl

test:
	@$(MAKE) --no-print-directory -j 2 system-packages lint binary
	@# The servers that the tests start find themselves compiled, even where Python may not write down what it compiles.
	@$(VENV)/python -m compileall -q app.py dwctl
	@# Tests of a file share a server, so that they stay on one worker. Files keep their order, in which the last are quick.
	$(VENV)/pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

test-long: system-packages binary javascript clients
	$(VENV)/pytest -m long --timeout 3600 $(ARGS)

crash: system-packages binary
	$(VENV)/python -m tests.crash --kills $(N) $(ARGS)

bench: setup-dev
	$(VENV)/python -m tests.bench $(ARGS)

clean:
	rm -rf .venv .cache dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache

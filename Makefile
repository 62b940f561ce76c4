PYTHON ?= python3
K2 = .venv/bin/k2

# The compiled form of a module is kept, whatever the environment says: tests start hundreds of processes.
suite soak: export PYTHONDONTWRITEBYTECODE =

.PHONY: up down status install test suite soak lint words format
install: ; @$(PYTHON) -m k2_stack.bootstrap
up: install ; @$(K2) up $(if $(SOURCE),--source $(SOURCE)) $(if $(SPEED),--speed $(SPEED)) $(if $(RATE),--rate $(RATE)) $(if $(DETACH),--detach)
down: ; @$(K2) down
status: ; @$(K2) status
lint: install words ; @.venv/bin/ruff format --check . && .venv/bin/ruff check . && .venv/bin/lint-imports && .venv/bin/mypy
words: ; @grep -rnoEi -f .refused-words --include=*.py --include=*.md *.md benchmarks docs k2_* tests; [ $$? -eq 1 ] || { echo "Reword these places in plain English: .refused-words lists what is refused, docs/glossary.md the words of K2." >&2; exit 1; }
test: ; @$(MAKE) --no-print-directory -j2 lint suite
suite: install ; @.venv/bin/pytest -n 3 --dist loadscope --no-loadscope-reorder $(ARGS)
soak: install ; @.venv/bin/pytest tests --soak $(or $(PART),all) --reliability docs/reliability.md $(ARGS)
format: install ; @.venv/bin/ruff format . && .venv/bin/ruff check --fix .

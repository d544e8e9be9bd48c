# `make demo` and `make test` need Python 3.11 or newer and make, nothing else.
# Variables: PYTHON (interpreter the environment is made with), VENV (its folder), WORKERS (test processes), ARGS (for pytest).

SHELL := /bin/sh
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
  $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && echo $$p && break; done)
VENV ?= .venv
BIN := $(VENV)/bin
WORKERS ?= 2
ARGS ?=
DEMO_OUT ?= demo-out
PIP_FLAGS := --disable-pip-version-check --quiet

.PHONY: help demo test test-slow lint docs coverage bench models encoders reproduce clean

help:
	@echo "make demo       install into $(VENV), invert the sample images, write $(DEMO_OUT)/report.html"
	@echo "make test       the test suite"
	@echo "make test-slow  the tests that are too long for every run"
	@echo "make lint       ruff and mypy"
	@echo "make docs       the documentation's site, into site/; a link that leads nowhere is an error"
	@echo "make coverage   the test suite with line coverage"
	@echo "make bench      the benchmarks (PyTorch beside it where it is installed)"
	@echo "make models     all that belongs to a trained toonhead64: GENERATOR=FILE DATA=PACK.npz [EXTRA=PACK.npz] [LABELLED=PACK.npz] [QUICK=1]"
	@echo "make encoders   what lsap_claims compares, trained for toonhead64: DATA=PACK.npz [EXTRA=PACK.npz] [ENCODERS=FOLDER]"
	@echo "make reproduce  the tables and figures of docs/comparison.md: DATA=PACK.npz [GENERATOR=FILE] [ENCODERS=FOLDER] [ONLY=STEP,STEP]"
	@echo "make clean      remove environment, caches and builds"

demo: $(VENV)/.installed
	$(BIN)/lsap-jax demo --out $(DEMO_OUT)

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal $(ARGS)

test-slow: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -m slow -n $(WORKERS) --dist worksteal $(ARGS) || [ $$? -eq 5 ]  # 5: no test is that long

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)/.installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

coverage: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal --cov --cov-report=term-missing:skip-covered $(ARGS)

bench: $(VENV)/.installed-dev
	$(BIN)/python benchmarks/step.py
	$(BIN)/python benchmarks/compile.py
	$(BIN)/python benchmarks/throughput.py
	$(BIN)/python benchmarks/refill.py
	$(BIN)/python benchmarks/edits.py
	$(BIN)/python benchmarks/convolutions.py
	$(BIN)/python benchmarks/gradients.py
	$(BIN)/python benchmarks/weight_gradients.py
	$(BIN)/python benchmarks/convert.py
	$(BIN)/python benchmarks/store.py
	$(BIN)/python benchmarks/independence.py
	$(BIN)/python benchmarks/resume.py

# Trained in MODELS, where an interrupted one goes on; then put into ASSETS. LABELLED: what the classifier learns from.
MODELS ?= runs/models
ASSETS ?= lsap_jax/assets
LABELLED ?= $(DATA)
# QUICK=1 rehearses all of it in minutes, each training with a few images; MODELS and ASSETS are to be other folders then.
QUICK ?=
FEW := $(if $(QUICK),--config.total_images=128 --config.snapshot_images=64)
# For images of 64 px: a small trunk, trained from the start, takes a higher rate and earlier rows than faces of 1024 px.
ENCODER := $(BIN)/lsap-jax train-encoder --config.total_images=40000 --config.snapshot_images=10000 --config.train.batch_size=16 \
  --config.train.lr=1e-3 --config.critic.lr=2e-4 --config.stages.start=4000 --config.stages.every=400 --config.train.mirror=False \
  --config.data=$(DATA) --config.extra_data="($(foreach pack,$(EXTRA),'$(pack)',))" --config.generator_file=False --config.float16=True $(FEW)

# Networks of the methods of refinement, for codes of that encoder.
REFINERS := hfgi_toonhead64 hyperstyle_toonhead64 train_styleres_toonhead64 train_sam_toonhead64

models: $(VENV)/.installed-dev
	@test -n "$(GENERATOR)" -a -n "$(DATA)" || { echo "give GENERATOR=FILE, which train-generator wrote, and DATA=PACK.npz"; exit 2; }
	$(BIN)/python -m pip install $(PIP_FLAGS) -e '.[svm]'
	mkdir -p $(MODELS)
	test -f $(MODELS)/attributes.safetensors || $(BIN)/lsap-jax train-attributes $(LABELLED) --config attributes_toonhead64 \
	  --config.generator=$(GENERATOR) $(if $(QUICK),--config.epochs=1) --out $(MODELS)/attributes.safetensors
	test -f $(MODELS)/directions.safetensors || $(BIN)/lsap-jax find-directions --generator $(GENERATOR) --attributes $(MODELS)/attributes.safetensors \
	  --method interfacegan --space z,w,s --samples $(if $(QUICK),2000,60000) --batch_size 64 --out $(MODELS)/directions.safetensors
	$(BIN)/lsap-jax train-basecode --config basecode_toonhead64 --config.generator=$(GENERATOR) $(FEW) --out $(MODELS)/basecode
	$(ENCODER) --config train_e4e --generator $(GENERATOR) --out $(MODELS)/encoder
	for method in $(REFINERS); do \
	  $(BIN)/lsap-jax train-refiner --config $$method --generator $(GENERATOR) --encoder $(MODELS)/encoder/encoder.safetensors --config.data=$(DATA) \
	  --config.extra_data="($(foreach pack,$(EXTRA),'$(pack)',))" --config.generator_file=False $(FEW) \
	  $(if $(QUICK),$$(case $$method in *sam*) echo --config.map_steps=2;; esac)) --out $(MODELS)/$$method || exit 1; \
	done
	$(BIN)/python -m lsap_jax.training.assets --generator $(MODELS)/basecode/generator.safetensors --encoder $(MODELS)/encoder/encoder.safetensors \
	  $(foreach method,$(REFINERS),--refiner $(MODELS)/$(method)/refiner.safetensors) --attributes $(MODELS)/attributes.safetensors \
	  --directions $(MODELS)/directions.safetensors --data $(DATA) $(addprefix --extra ,$(EXTRA)) --out $(ASSETS) $(CARD)

# What lsap_claims compares besides the generator's own encoder, trained in the same way. Rows of LSAP_E follow 20 times as fast.
# `make -j2 encoders` with NPROC=1 takes two processors best.
ENCODERS ?= benchmarks/encoders
LSAP_E := --config train_lsap_e --config.stages.every=20
TRAINED_psp := --config train_psp
TRAINED_e4e_1 := --config train_e4e --config.seed=1
TRAINED_e4e_2 := --config train_e4e --config.seed=2
TRAINED_lsap_e := $(LSAP_E)
TRAINED_lsap_e_1 := $(LSAP_E) --config.seed=1
TRAINED_lsap_e_2 := $(LSAP_E) --config.seed=2
TRAINED_lsap_e_w0.1 := $(LSAP_E) --config.loss.nscd=0.1
TRAINED_lsap_e_w2 := $(LSAP_E) --config.loss.nscd=2
TRAINED_restyle_e4e := --config train_restyle_e4e

encoders: $(patsubst TRAINED_%,$(ENCODERS)/%.safetensors,$(filter TRAINED_%,$(.VARIABLES)))

$(ENCODERS)/%.safetensors: | $(VENV)/.installed-dev
	@test -n "$(DATA)" || { echo "give DATA=PACK.npz"; exit 2; }
	$(ENCODER) $(TRAINED_$*) --generator toonhead64 --out runs/encoders/$*
	mkdir -p $(ENCODERS)
	$(BIN)/python benchmarks/keep_encoder.py runs/encoders/$*/encoder.safetensors $@

# What the machine does for hours, docs/comparison.md says; it goes on where it was stopped.
REPRODUCED ?= runs/reproduce

reproduce: $(VENV)/.installed-dev
	@test -n "$(DATA)" || { echo "give DATA=PACK.npz, whose last 200 images are in no training"; exit 2; }
	$(BIN)/python benchmarks/reproduce.py --images $(DATA) --encoders $(ENCODERS) --out $(REPRODUCED) $(if $(GENERATOR),--generator $(GENERATOR)) $(if $(ONLY),--only $(ONLY))

clean:
	rm -rf $(VENV) build dist site *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage .coverage.*

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "lsap_jax needs Python 3.11 or newer; none found. Name one: make PYTHON=/path/to/python3"; exit 1; }
	$(PYTHON) -m venv $(VENV)

# Made again only when the dependencies may have changed.
$(VENV)/.installed: setup.py pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install $(PIP_FLAGS) -e .
	@touch $@

$(VENV)/.installed-dev: setup.py pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install $(PIP_FLAGS) -e '.[dev]'
	@touch $@ $(VENV)/.installed

$(VENV)/.installed-docs: setup.py pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install $(PIP_FLAGS) -e '.[dev,docs]'
	@touch $@ $(VENV)/.installed-dev $(VENV)/.installed

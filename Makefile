# Everything that the project does, as short recipes; `make run` is the way in.
PYTHON ?= python3
# Another package index for torch, for example the one of the CUDA builds; empty: the index that pip uses anyway.
TORCH_INDEX ?=
BIN := .venv/bin
READY := .venv/.ready .venv-triton/.ready
UV_COMPILE = $(BIN)/python -m uv pip compile --universal --python-version 3.11 --generate-hashes --no-strip-extras --no-annotate --no-header --quiet
TORCH = $(shell sed -n 's/.*"\(torch==[0-9.]*\)".*/\1/p' pyproject.toml)

# The allocator returns memory to the system only rarely: page faults cost more than the arithmetic otherwise.
export MALLOC_MMAP_MAX_ := 0
export MALLOC_TRIM_THRESHOLD_ := 40000000000
export MALLOC_TOP_PAD_ := 500000000

# What results/reference keeps of a run of the study `default`: figures, and the two networks for the inputs that all have.
FIGURES := 02_history_pfn 02_history_particlenet 05_throughput 06_closure_0-1.3 06_closure_residual_0-1.3 06_coverage \
  06_flavour_30-inf 06_flavour_300-1000 06_flavour_difference_uds_g 06_flavour_gain 06_frontier 06_learning_curve 06_limits \
  06_prior 06_pull 06_resolution_0-1.3 06_resolution_1.3-2.5 06_resolution_gain 06_variations_resolution_gain
MODELS := pfn particlenet
KEPT := results/reference

.PHONY: run reference tuning-comparison study test bench reliability lab lock audit environment clean

run: environment  ## the main job: study `quick` from simulated collisions to figures
	$(BIN)/jetcorr run --study quick --out results/quick

tuning-comparison: environment  ## random search against TPE, five searches each
	$(BIN)/jetcorr compare-searches --study quick --work results/tuning-comparison --out results/reference \
	  -p data.simulation.jets 12000 -p data.split '{validation: 0.3, test: 0.1}' -p models.pfn.training.epochs 4 \
	  -p tuning.max_jets 3000 -p tuning.epochs 4

study: environment  ## the physics result: study `default`, resumable, kept in results/reference
	$(BIN)/jetcorr run --study default --out results/default
	$(MAKE) reference

reference: environment  ## keep what a run of `default` has made
	mkdir -p $(KEPT)/figures
	cp results/default/metrics.json $(KEPT)/
	cp $(FIGURES:%=results/default/figures/%.png) $(KEPT)/figures/
	rm -rf $(KEPT)/model_repository
	mkdir $(KEPT)/model_repository
	cp -R $(MODELS:%=results/default/model_repository/%) $(KEPT)/model_repository/
	$(BIN)/jetcorr compare-cms --study default -p data.simulation.slices '[]' --out $(KEPT)  # CMS's sample is flat

test: environment
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

bench: environment
	$(BIN)/python -m tests.benchmarks --out results/reference/bench.jsonl

reliability: environment  ## kills, full disks, broken files, load (hours): writes results/reference/reliability.md
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.reliability

lab: environment  ## JupyterLab on the notebooks, with the project's kernel
	$(BIN)/jupyter lab notebooks

environment:  ## both environments, at the same time
	@$(MAKE) --question $(READY) || $(MAKE) --no-print-directory --jobs=2 $(READY)

.venv/.ready: requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "jetcorr needs Python 3.11 or newer: make PYTHON=…")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet $(TORCH) $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX))
	$(BIN)/pip install --quiet --no-deps --require-hashes -r requirements.lock
	$(BIN)/pip install --quiet --no-deps --no-build-isolation -e .
	$(BIN)/pip check
	touch $@

# The wheel that carries the Triton server pins numpy below 2, and so cannot share the environment. It exists for Linux
# x86-64 only; elsewhere the server is given by URL, or the models run in process.
.venv-triton/.ready: requirements-triton.lock
	@if [ "$$(uname -sm)" = "Linux x86_64" ]; then set -x; \
	  $(PYTHON) -m venv .venv-triton && .venv-triton/bin/pip install --quiet --no-deps --require-hashes -r $<; \
	else echo "no Triton server for $$(uname -sm): models will run in process"; mkdir -p .venv-triton; fi
	touch $@

lock:  ## new pins from pyproject.toml, for pip and for conda
	$(BIN)/pip install --quiet uv
	$(UV_COMPILE) pyproject.toml --all-extras --no-emit-package torch -o requirements.lock
	$(UV_COMPILE) requirements-triton.in -o requirements-triton.lock
	{ printf '# The environment of the notebook server for conda users; made by `make lock`, same pins as requirements.lock.\n'; \
	  printf 'name: jetcorr\nchannels: [conda-forge]\ndependencies:\n  - python=3.11\n  - pip\n  - make\n  - pip:\n      - $(TORCH)\n'; \
	  sed -n 's/^\([A-Za-z0-9].*[^ ]\) *\\$$/      - "\1"/p' requirements.lock; } > environment.yml

audit: environment  ## known vulnerabilities of what is installed, as PyPI knows them
	$(BIN)/pip install --quiet uv
	$(BIN)/python -m uv tool run pip-audit $(foreach folder,$(wildcard .venv*/lib/python3*/site-packages),--path $(folder))

clean:  ## generated data and results (not the environments)
	rm -rf results/quick results/default data/simulated data/cache

# Everything that the project does, as short recipes; `make run` is the way in.
PYTHON ?= python3
# Another package index for torch, for example the one of the CUDA builds; empty: the index that pip uses anyway.
TORCH_INDEX ?=
BIN := .venv/bin
READY := .venv/.ready .venv-triton/.ready
# The Pythons that every pinned package has wheels for
PYTHONS := 3.11 3.12 3.13 3.14
# The run whose notebooks the site shows
RUN ?= results/quick
UPGRADE ?=
UV_COMPILE = .venv-tools/bin/uv pip compile --universal --python-version 3.11 --generate-hashes --no-strip-extras --no-annotate --no-header --quiet $(UPGRADE)
# Wheels only, so that nothing is ever compiled, and no code of a package runs while it is installed; but for one package
# of pure Python that has no wheel, which the pinned setuptools builds.
PIP = $(BIN)/python -m pip install --quiet --only-binary :all:
LOCKED = --no-deps --require-hashes --no-binary kfp-server-api --no-build-isolation
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

.DEFAULT_GOAL := help
.PHONY: help run reference tuning-comparison study docs test test-image coverage check lines bench reliability lab lock audit environment clean

help:  ## what there is
	@sed -n 's/^\([a-z][a-z-]*\):.*  ## \(.*\)/\1|\2/p' Makefile | awk -F'|' '{ printf "make %-18s %s\n", $$1, $$2 }'

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

docs: environment .venv-docs/.ready  ## the site, in docs/_build/html, with the notebooks of `make run`; RUN= without them
	$(if $(filter results/quick,$(RUN)),$(BIN)/jetcorr run --study quick --out $(RUN))
	JETCORR_DOCS_RUN=$(RUN) .venv-docs/bin/python -m sphinx --quiet --fail-on-warning --keep-going docs docs/_build/html
	@echo "docs/_build/html/index.html"

test: environment  ## all tests but those of the image; PYTEST_ARGS="tests/models -k closure": some of them
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder --durations 20 \
	  --ignore tests/image $(PYTEST_ARGS)

test-image: environment  ## builds the image of pipelines/image with buildah, and runs the notebooks in it
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --durations 20 tests/image

coverage: environment  ## the tests, with the lines and branches of the package that none of them has run
	$(MAKE) test PYTEST_ARGS="--cov --cov-report term:skip-covered --cov-report html $(PYTEST_ARGS)"

check: environment .venv-tools/.ready  ## style, types and the habits of Scientific Python: what pre-commit and .ci/run ask for
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	.venv-tools/bin/nbstripout --keep-id --verify notebooks/*.ipynb pipelines/*.ipynb
	$(BIN)/python .ci/check_types.py .venv-tools/bin/mypy
	.venv-tools/bin/sp-repo-review .

lines:  ## lines of code of the package: without docstrings, comments and blank lines
	@$(PYTHON) .ci/count_lines.py jetcorr_utils jetcorr_utils/*/

bench: environment  ## speed, each against a peer or a limit: writes results/reference/bench.jsonl
	$(BIN)/python -m tests.benchmarks --out results/reference/bench.jsonl

reliability: environment  ## kills, full disks, broken files, load (an hour): writes results/reference/reliability.md
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.reliability --jobs 2

lab: environment  ## JupyterLab on the notebooks, with the project's kernel
	JUPYTER_CONFIG_PATH=pipelines/lab $(BIN)/jupyter lab --ServerApp.root_dir=$(CURDIR) \
	  --KernelManager.transport_encryption=auto --LabApp.default_url=/lab/tree/notebooks/01_data_exploration.ipynb  # Kale's panel is for a cluster: off here

environment: $(READY)  ## both environments

.venv/.ready: requirements-pip.lock requirements.lock pyproject.toml
	@$(PYTHON) -c '$(CHECK_PYTHON)'
	@# Another Python's environment is no start; the same one's is brought up to date
	[ "$$($(BIN)/python -V 2>&1)" = "$$($(PYTHON) -V 2>&1)" ] || $(PYTHON) -m venv --clear .venv
	$(PIP) --no-deps --require-hashes -r requirements-pip.lock
	$(PIP) $(LOCKED) -r requirements.lock
	$(PIP) $(TORCH) $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX))
	$(PIP) --no-deps --no-build-isolation -e .
	$(BIN)/python -m pip check
	touch $@

CHECK_PYTHON = import platform, sys, sysconfig; \
  found = "%s %d.%d" % ((platform.python_implementation(),) + sys.version_info[:2]); \
  found += " without GIL" * bool(sysconfig.get_config_var("Py_GIL_DISABLED")); \
  sys.exit(None if found in ["CPython " + version for version in "$(PYTHONS)".split()] else \
  "jetcorr needs CPython $(PYTHONS) (one of them), and %s is %s: make PYTHON=python3.12" % (sys.executable, found))

# The server gets an environment of its own, with nothing but what it needs. Its wheel is for Linux x86-64 with a C library
# of 2022 or newer, and for Pythons up to 3.13; elsewhere the server is given by URL, or the models run in process.
.venv-triton/.ready: requirements-triton.lock .venv/.ready
	@if $(BIN)/python -c '$(CHECK_SERVER)'; then set -x; $(call fresh,.venv-triton,$<); \
	else echo "no Triton server for this system or this Python: models will run in process"; \
	  rm -rf .venv-triton; mkdir .venv-triton; fi
	touch $@

CHECK_SERVER = import platform, sys; (libc, version), python = platform.libc_ver(), sys.version_info; \
  sys.exit(not ((platform.system(), platform.machine(), libc) == ("Linux", "x86_64", "glibc") \
  and [int(part) for part in version.split(".")] >= [2, 35] and python < (3, 14)))

.venv-tools/.ready: requirements-tools.lock .venv/.ready
	$(call fresh,.venv-tools,$<)
	touch $@

.venv-docs/.ready: requirements-docs.lock .venv/.ready
	$(call fresh,.venv-docs,$<)
	touch $@

# An environment without pip of its own: that of .venv fills it.
fresh = $(BIN)/python -m venv --clear --without-pip $(1) && \
  $(BIN)/python -m pip --python $(1)/bin/python install --quiet --no-deps --only-binary :all: --require-hashes -r $(2)

lock: .venv-tools/.ready  ## pins from pyproject.toml, for pip and for conda; UPGRADE=--upgrade: the newest releases
	$(UV_COMPILE) requirements-pip.in -o requirements-pip.lock
	$(UV_COMPILE) requirements-tools.in -o requirements-tools.lock
	$(UV_COMPILE) pyproject.toml --all-extras --no-emit-package torch -o requirements.lock
	$(UV_COMPILE) --constraints requirements.lock requirements-docs.in -o requirements-docs.lock
	$(UV_COMPILE) --no-deps requirements-triton.in -o requirements-triton.lock
	{ printf '# The environment of the notebook server for conda users; made by `make lock`, same pins as requirements.lock.\n'; \
	  printf 'name: jetcorr\nchannels: [conda-forge]\ndependencies:\n  - python=3.11\n  - pip\n  - make\n  - pip:\n      - $(TORCH)\n'; \
	  sed -n 's/^\([A-Za-z0-9].*[^ ]\) *\\$$/      - "\1"/p' requirements.lock; } > environment.yml

audit: environment .venv-tools/.ready  ## known vulnerabilities of what is installed, as PyPI knows them
	.venv-tools/bin/pip-audit $(foreach folder,$(wildcard .venv*/lib/python3*/site-packages),--path $(folder))

clean:  ## generated data and results (not the environments)
	rm -rf results/quick results/default data/simulated data/cache docs/_build docs/api docs/tables

# make demo: set everything up and run the pipeline to its report. make help: the rest.
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
DATA ?= fashion_mnist.parquet
BIN := $(VENV)/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
export DVC_NO_ANALYTICS := 1
export MLFLOW_DISABLE_TELEMETRY := true
export RAY_USAGE_STATS_ENABLED := 0

.PHONY: help setup demo cluster-demo test test-slow test-nodes test-all check format docs lock ui ray audit bench bench-digits bench-photos bench-transfer bench-corrections bench-pseudo_label bench-train bench-segmentation bench-scale bench-rates bench-storage bench-workers bench-gpu ablation chaos fuzz

help: # the targets with two number signs
	@grep -E '^[a-z_-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 20

$(VENV)/.synced: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "selftrain needs Python >= 3.11; set PYTHON=/path/to/python3.11" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/uv pip sync --quiet --require-hashes --compile-bytecode requirements.lock
	VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/uv pip install --quiet --no-deps --editable . uv
	@touch $@

setup: $(VENV)/.synced ## make .venv from requirements.lock

demo: setup ## the whole pipeline on handwritten digits, to report/index.html; VERBOSE=1: all is said
	selftrain run $(if $(VERBOSE),--verbose -- --verbose)

cluster-demo: setup ## several Ray nodes on this machine, five of them lost while the digits run
	OMP_NUM_THREADS=1 python -m cluster.demo

test: setup ## the tests that take seconds, and the whole pipeline once
	OMP_NUM_THREADS=1 python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not slow or pipeline"

test-slow: setup ## the tests that take minutes on one node; before a release
	OMP_NUM_THREADS=1 python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "slow and not pipeline and not nodes"

test-nodes: setup ## the tests of several Ray nodes; on a machine with nothing else to do
	OMP_NUM_THREADS=1 python -m pytest -m nodes

test-all: setup ## all tests
	OMP_NUM_THREADS=1 python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

check: setup ## style, types and layers
	ruff check .
	ruff format --check .
	mypy
	lint-imports

audit: setup ## look for known problems in the code and in what it needs; needs a network
	@$(BIN)/uv tool run --quiet bandit --version >/dev/null || { echo "make audit fetches bandit and pip-audit: no network, nothing was looked at" >&2; exit 1; }
	$(BIN)/uv tool run --quiet bandit --quiet --recursive --severity-level medium pipeline stages cluster benchmarks
	$(BIN)/uv tool run --quiet pip-audit --strict --require-hashes --disable-pip --requirement requirements.lock

format: setup ## put the code in its standard form
	ruff check --fix .
	ruff format .

docs: setup ## renew docs/parameters.md
	python -m pipeline.params.doc

lock: ## renew requirements.lock
	$(BIN)/uv pip compile --universal --generate-hashes --no-emit-index-url --extra cloud --extra dev --python-version 3.11 --quiet --upgrade pyproject.toml -o requirements.lock

bench: bench-pseudo_label bench-train bench-digits bench-transfer bench-corrections ## the benchmarks, hours; others, which Makefile lists: bench-NAME, ablation, chaos, fuzz

bench-digits: setup # side by side with scikit-learn; PARAMS=presets/NAME.yaml
	python -m benchmarks.digits $(if $(PARAMS),--params $(PARAMS))

bench-photos: setup # side by side with scikit-learn; 3 hours; DATA=folder of Parquet files
	OMP_NUM_THREADS=1 python -m benchmarks.photos --data $(DATA)

bench-transfer: setup # networks carried between digits and Fashion-MNIST
	python -m benchmarks.transfer --data $(DATA)

bench-corrections: setup # labels by a person, as the report asks for them or at random
	python -m benchmarks.corrections --data $(DATA)

bench-pseudo_label: setup # images a second of pseudo_label through Ray, against a bare loop
	OMP_NUM_THREADS=1 python -m benchmarks.pseudo_labelling

bench-train: setup # images a second of training, against a bare loop
	OMP_NUM_THREADS=1 python -m benchmarks.training

bench-segmentation: setup # images a second of learning and predicting masks, against bare loops
	OMP_NUM_THREADS=1 python -m benchmarks.segmentation

bench-scale: setup # memory and seconds of what goes through all images; IMAGES=10000000
	OMP_NUM_THREADS=1 python -m benchmarks.memory --images $(or $(IMAGES),1000000)
	OMP_NUM_THREADS=1 python -m benchmarks.memory.nodes

bench-rates: setup # the rates of docs/scale.md that one core has
	OMP_NUM_THREADS=1 python -m benchmarks.memory.rates

bench-storage: setup # photographs as JPEG beside PNG: bytes, speed, accuracy; DATA=folder of Parquet files
	OMP_NUM_THREADS=1 python -m benchmarks.storage --data $(DATA)

bench-workers: setup # prepare and embed by two Ray workers, against one; on a machine with nothing else to do
	OMP_NUM_THREADS=1 python -m benchmarks.workers

bench-gpu: # training and prediction on a GPU; needs torch, not Ray, DVC or MLflow
	python -m benchmarks.gpu

ablation: setup # which part helps, on digits and on DATA/fashion_mnist.parquet; to docs/ablation.md
	python -m benchmarks.ablation --data $(or $(DATA),.)

chaos: setup # kill every stage at each of its file operations, and runs at random moments; hours; to docs/reliability.md
	python -m benchmarks.chaos

fuzz: setup # mutate every format that is read, 2,000 times each; hours
	OMP_NUM_THREADS=1 python -m tests.bad_input.fuzz

ray: setup ## Ray on 127.0.0.1 until Ctrl-C, for stages to join instead of starting their own
	@umask 077; ray get-auth-token --generate > /dev/null
	@python -m pipeline.ray.session

ui: setup ## browse the runs in MLflow on 127.0.0.1
	selftrain ui

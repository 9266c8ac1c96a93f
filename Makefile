# `make demo` and `make test` need Python 3.10 or newer and nothing else: each makes its own
# environment. A stamp in the environment says what is installed, so that this happens once.

PYTHON ?= python3
VENV := .venv
RUNTIME := .venv-runtime
GPU := .venv-gpu
OPENVINO := .venv-openvino
# A Jetson has no wheel of onnxruntime-gpu there: bring your own and leave `gpu` out.
GPU_EXTRAS ?= gpu,rtx,onnx,test
PY := $(VENV)/bin/python
PIP := $(PY) -m pip --disable-pip-version-check install --quiet
# What a Jetson may want of the extras.
JETSON_EXTRAS ?= cpu gpu onnx build tensorrt
SUBPACKAGES := runtime export calibration cli
# Names of the tests that have passed without PyTorch and onnx.
PASSED := build/passed-without-pytorch.txt
# What decides which packages are installed.
INSTALLED_FROM := pyproject.toml constraints.txt

export PIP_NO_INPUT := 1
# Python compiles what it imports, and keeps it; to compile all of PyTorch and Transformers at once takes a minute.
# (pip reads the variable of an option that says "no" the other way round: 0 is "do not".)
export PIP_NO_COMPILE := 0
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test examples fuzz zoo bench lint style types pytest pytest-runtime fleet gpu gpu-suite wheels-check format clean

help:
	@echo "make demo   export a pretrained network and explain a photo with it (writes demo-output/)"
	@echo "make test   linters, type checks and all tests, the runtime's also without PyTorch and onnx"
	@echo "make examples   packages of the examples in JavaScript (from the npm registry), and their tests, which are skipped without"
	@echo "make fuzz   thousands of wrong photos, documents and calls, each answered or refused in a sentence, and 2,000 random"
	@echo "            classifiers, each explained as numpy says (an hour; FUZZ='--kind semantics' for these alone)"
	@echo "make zoo    export and judge every architecture we know (writes docs/results/zoo.md; under an hour; resumes where it stopped)"
	@echo "make fleet  tests of audits on Ray, which is installed for them"
	@echo "make bench  cfcam beside pytorch-grad-cam, torch-cam, Captum and OpenVINO XAI (writes docs/results/benchmarks.md; an hour;"
	@echo "            BENCH='--parts time --networks mobilenet_v2 --rounds 8' for a part)"
	@echo "make gpu    tests of engines on an NVIDIA GPU; says so loudly where there is none"
	@echo "make wheels-check   ask pip which extras have wheels for a Jetson; installs nothing"
	@echo "make lint   linters and type checks only"
	@echo "make format sort imports and format"
	@echo "make clean  remove environments and everything that was built"
	@echo "Variables: PYTHON=python3.12 picks the interpreter of new environments."

demo: $(VENV)/stamp-demo
	$(PY) -m cfcam.cli demo

# Types are checked beside the tests: before them they would leave the other core idle for a minute. What a device can
# run is tested in the environment that is like a device's, and then everything else in the full one.
test: style
	@$(MAKE) --no-print-directory -j 2 types pytest pytest-runtime

# Packages come as files; none of them runs a program of its own when it is installed.
examples: $(VENV)/stamp-dev
	cd examples/node && npm install --ignore-scripts
	cd examples/web && npm install --ignore-scripts
	OMP_NUM_THREADS=1 $(PY) -m pytest tests/examples tests/runtime/serving/test_page.py

# FUZZ holds options: --kind photo, --seed 1, --scale 10, --only photo:0.17, --first 1200 (goes on from there)
fuzz: $(VENV)/stamp-dev
	OMP_NUM_THREADS=1 PYTHONPATH=tests $(PY) -m fuzz.run $(FUZZ)

zoo: $(VENV)/stamp-dev
	$(PY) benchmarks/zoo.py -j 2 --output docs/results/zoo.md

bench: $(VENV)/stamp-bench $(OPENVINO)/stamp
	OMP_NUM_THREADS=1 $(PY) benchmarks/peers.py $(BENCH)

lint: style types

style: $(VENV)/stamp-dev
	$(PY) -m ruff check
	$(PY) -m ruff format --check

types: $(VENV)/stamp-dev
	@mkdir -p build/typing/cfcam
	@for name in $(SUBPACKAGES); do ln -sfn ../../../$$name build/typing/cfcam/$$name; done
	$(PY) -m pyright --pythonpath $(PY)

# Two workers on two cores: PyTorch's own threads would only get in each other's way.
pytest: $(VENV)/stamp-dev pytest-runtime
	OMP_NUM_THREADS=1 $(PY) -m pytest -n 2 --dist worksteal --passed-elsewhere=$(PASSED)

# Ray takes half a minute to install, and its tests as long: too much for every run of the tests.
fleet: $(VENV)/stamp-dev
	$(PIP) -c constraints.txt -e '.[fleet]'
	OMP_NUM_THREADS=1 $(PY) -m pytest tests/calibration/audit/test_cluster.py

# A device has neither PyTorch nor onnx, so the model files that are read there are built before.
pytest-runtime: $(RUNTIME)/stamp $(VENV)/stamp-dev
	$(PY) tests/tiny_model.py
	$(RUNTIME)/bin/python -c "import importlib.util as u; found = [n for n in ('torch', 'onnx', 'onnxscript') if u.find_spec(n)]; assert not found, found"
	OMP_NUM_THREADS=1 $(RUNTIME)/bin/python -m pytest -n 2 --dist worksteal tests/runtime tests/test_imports.py \
		--write-passed=$(PASSED)

# Asks for the GPU first: without one there is nothing to install, and nothing is tested.
gpu:
	@if reason=$$($(PYTHON) tests/gpu/driver.py); then $(MAKE) --no-print-directory gpu-suite; \
	else echo "GPU SUITE NOT RUN: $$reason. NOTHING WAS TESTED ON A GPU." >&2; fi

# A process has one TensorRT package, so there are two.
gpu-suite: $(GPU)/stamp
	OMP_NUM_THREADS=1 $(GPU)/bin/python -m pytest -m gpu tests/gpu -k "not tensorrt_rtx"
	OMP_NUM_THREADS=1 $(GPU)/bin/python -m pytest -m gpu tests/gpu -k tensorrt_rtx

# ONNX Runtime for GPUs overwrites the other one, so it needs an environment of its own. It sees the system's
# packages, because JetPack installs TensorRT there.
$(GPU)/stamp: $(INSTALLED_FROM)
	$(PYTHON) -m venv --clear --system-site-packages $(GPU)
	$(GPU)/bin/python -m pip --disable-pip-version-check install --quiet -e '.[$(GPU_EXTRAS)]'
	@touch $@

# JetPack 6 has Python 3.10 and glibc 2.35, JetPack 7 has 3.12 and 2.39. pip takes the environment markers of this
# machine, which is why [rtx] (x86-64 only) is not asked for, and why a Linux is needed.
wheels-check: $(VENV)/bin/python
	@for jetpack in 3.10/35 3.12/39; do for extra in $(JETSON_EXTRAS); do \
	platforms=$$(seq 17 $${jetpack#*/} | sed 's/.*/--platform manylinux_2_&_aarch64/'); \
	if missing=$$($(PY) -m pip --disable-pip-version-check install --dry-run --quiet --ignore-installed --target build/wheels-check \
	--only-binary=:all: --python-version $${jetpack%/*} --implementation cp --platform manylinux2014_aarch64 $$platforms \
	".[$$extra]" 2>&1 >/dev/null); then echo "Python $${jetpack%/*}, aarch64: [$$extra] resolves"; \
	else echo "Python $${jetpack%/*}, aarch64: [$$extra]: $$(echo "$$missing" | tail -1)"; fi; done; done

format: $(VENV)/stamp-dev
	$(PY) -m ruff check --fix
	$(PY) -m ruff format

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' \
		|| { echo "cfcam needs Python 3.10 or newer: try 'make PYTHON=python3.12 ...'" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/stamp-demo: $(INSTALLED_FROM) | $(VENV)/bin/python
	$(PIP) -c constraints.txt -e '.[cpu,export,demo]'
	@touch $@

$(VENV)/stamp-bench: $(VENV)/stamp-dev
	$(PIP) -c constraints.txt -e '.[bench]'
	@touch $@

# It wants older releases than the rest of what `make bench` compares.
$(OPENVINO)/stamp: constraints.txt
	$(PYTHON) -m venv --clear $(OPENVINO)
	$(OPENVINO)/bin/python -m pip --disable-pip-version-check install --quiet openvino_xai onnxruntime
	@touch $@

$(VENV)/stamp-dev: $(INSTALLED_FROM) | $(VENV)/bin/python
	$(PIP) -c constraints.txt -e '.[cpu,export,demo,dev]'
	@touch $(VENV)/stamp-demo $@

$(RUNTIME)/stamp: $(INSTALLED_FROM)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' \
		|| { echo "cfcam needs Python 3.10 or newer: try 'make PYTHON=python3.12 ...'" >&2; exit 2; }
	$(PYTHON) -m venv --clear $(RUNTIME)
	$(RUNTIME)/bin/python -m pip --disable-pip-version-check install --quiet -e '.[cpu,test]'
	@touch $@

clean:
	rm -rf $(VENV) $(RUNTIME) $(GPU) $(OPENVINO) build dist demo-output .pytest_cache .ruff_cache .hypothesis *.egg-info

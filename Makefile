# Everything a fresh machine needs: `make demo` or `make test`, each alone.
# BACKEND=tensorflow|jax|torch picks the Keras backend.

PYTHON ?= python3
BACKEND ?=
DEMO_BACKEND := $(or $(BACKEND),tensorflow)
BACKENDS := $(or $(BACKEND),jax tensorflow torch)

# Of the CPU builds only TensorFlow's has a name of its own (not on macOS).
tensorflow_PACKAGE := $(if $(filter Darwin,$(shell uname -s)),tensorflow,tensorflow-cpu)
jax_PACKAGE := jax
torch_PACKAGE := torch

ifeq ($(filter tensorflow jax torch,$(DEMO_BACKEND)),)
$(error BACKEND must be tensorflow, jax or torch. Received: BACKEND=$(BACKEND))
endif

DEMO_VENV := .venv-demo-$(DEMO_BACKEND)
TEST_VENV := .venv-test
CONSTRAINTS := constraints.txt
INSTALL_ANY = bin/pip install --quiet --disable-pip-version-check $(addprefix --constraint ,$(CONSTRAINTS))
INSTALL = $(INSTALL_ANY) --editable
INSTALL_ALONE = $(INSTALL_ANY) --no-deps

# The first of these versions that is on the machine, under pyenv too.
first_python = $(shell for python in $(foreach version,$(1),python$(version) $(HOME)/.pyenv/versions/$(version).*/bin/python) $(PYTHON); do \
	$$python -c '' 2>/dev/null && echo $$python && break; done)
oldest_PYTHON = $(call first_python,3.11)
newest_PYTHON = $(call first_python,3.13 3.12)
# KERAS=nightly lays tomorrow's Keras over the newest one.
KERAS ?= keras
NIGHTLY := $(if $(filter nightly,$(KERAS)),.venv-newest/nightly)

# What only the benchmark takes.
BENCHMARK_PACKAGES := onnxscript==0.7.2 zeromodels==1.3.6

# The reference for detectors, without what it cannot do without a compiler.
MMDET_BASE := torch onnx onnxruntime scipy matplotlib rich pyyaml pycocotools six
MMDET_PACKAGES := mmdet==3.3.0 mmcv-lite==2.1.0 mmengine==0.10.7 addict==2.4.0 \
	yapf==0.43.0 platformdirs==4.14.8 \
	termcolor==3.3.0 terminaltables==3.1.10 shapely==2.2.0 tqdm==4.70.1 opencv-python-headless==5.0.0.93

.PHONY: help demo check test test-long test-newest test-oldest mutants fuzz benchmark benchmark-gpu benchmark-depthwise data-benchmark digits lint format docs clean

help:  ## list the targets, with their minutes on two cores once their environment is there
	@grep -E '^[a-z-]+:.*##' Makefile | sed 's/:[^#]*##/|/' | column -t -s '|'

demo: $(DEMO_VENV)/ready  ## train on handwritten digits (default BACKEND=tensorflow); 2 min
	KERAS_BACKEND=$(DEMO_BACKEND) TF_CPP_MIN_LOG_LEVEL=3 $(DEMO_VENV)/bin/keras-convnext demo

check: lint  ## lint, and the tests nearest to the change since origin/main (default BACKEND=torch); 2 min
	$(TEST_VENV)/bin/python tests/check.py $(BACKEND)

test: $(TEST_VENV)/ready  ## run the tests (default: on all three backends); 10 to 30 min, one BACKEND 4 to 12
	$(TEST_VENV)/bin/python tests/run.py $(BACKENDS)

test-long: $(TEST_VENV)/ready .venv-mmdet/ready  ## run the long proofs and write tests/LONG.md; up to 2 hours
	$(TEST_VENV)/bin/python tests/run.py --long $(BACKENDS)

mutants: $(TEST_VENV)/ready  ## break the package in known ways; some test must notice each (NAMES='grn_*' for some); 15 min
	$(TEST_VENV)/bin/python tests/mutants.py $(NAMES)

fuzz: $(TEST_VENV)/ready  ## damage every kind of file 10,000 times and open it (KINDS='onnx keras' for some); hours
	KERAS_BACKEND=$(or $(BACKEND),torch) TF_CPP_MIN_LOG_LEVEL=3 $(TEST_VENV)/bin/python tests/fuzz.py $(KINDS)

test-newest: $(or $(NIGHTLY),.venv-newest)/ready  ## the tests with the newest versions of all packages (KERAS=nightly: and of Keras); 12 min
	PYTHONPATH=$(addprefix $(CURDIR)/,$(NIGHTLY)) .venv-newest/bin/python tests/run.py $(BACKENDS)

test-oldest: .venv-oldest/ready  ## the tests with the oldest versions that pyproject.toml admits; 12 min
	.venv-oldest/bin/python tests/run.py $(BACKENDS)

benchmark: $(TEST_VENV)/benchmark-ready  ## time inference and training beside other packages, 60 min; writes benchmarks/speed
	KERAS_BACKEND=torch $(TEST_VENV)/bin/python benchmarks/race --output benchmarks/speed --force

# On an accelerator that $(PYTHON) has the builds for: those of this file are
# for CPUs.
benchmark-gpu:  ## two steps, Tiny, Base and V2-Tiny in bfloat16, depthwise forms, in your own environment; 12 min; writes benchmarks/gpu
	$(PYTHON) benchmarks/gpu.py

benchmark-depthwise: $(TEST_VENV)/ready  ## time the depthwise convolution's forms on every backend
	for backend in $(BACKENDS); do KERAS_BACKEND=$$backend TF_CPP_MIN_LOG_LEVEL=3 $(TEST_VENV)/bin/python benchmarks/depthwise.py || exit 1; done

data-benchmark: $(TEST_VENV)/ready  ## time the training loader beside timm's (default BACKEND=torch)
	KERAS_BACKEND=$(or $(BACKEND),torch) TF_CPP_MIN_LOG_LEVEL=3 OMP_NUM_THREADS=1 $(TEST_VENV)/bin/python benchmarks/data.py

digits: $(TEST_VENV)/ready  ## train the digits recipe over seeds and write benchmarks/DIGITS.md (default BACKEND=torch)
	KERAS_BACKEND=$(or $(BACKEND),torch) TF_CPP_MIN_LOG_LEVEL=3 $(TEST_VENV)/bin/python benchmarks/digits.py

lint: $(TEST_VENV)/ready  ## check style, types and which room imports which; 1 min
	$(TEST_VENV)/bin/ruff check .
	$(TEST_VENV)/bin/ruff format --check .
	$(TEST_VENV)/bin/mypy
	$(TEST_VENV)/bin/lint-imports --no-logo

docs: $(TEST_VENV)/ready  ## build the documentation into site/, and check its links and its English; 1 min
	$(TEST_VENV)/bin/python tests/prose.py
	NO_MKDOCS_2_WARNING=1 $(TEST_VENV)/bin/mkdocs build --strict
	$(TEST_VENV)/bin/python tests/browse_site.py

format: $(TEST_VENV)/ready  ## fix style
	$(TEST_VENV)/bin/ruff check --fix .
	$(TEST_VENV)/bin/ruff format .

clean:  ## remove the environments and what the demo wrote
	rm -rf .venv-* demo_output site

.venv-demo-%/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-demo-$*
	.venv-demo-$*/$(INSTALL) '.[demo]' $($*_PACKAGE)
	touch $@

$(TEST_VENV)/ready: constraints.txt
.venv-oldest/ready: constraints-oldest.txt
.venv-oldest/ready: CONSTRAINTS := constraints-oldest.txt
.venv-newest/ready: CONSTRAINTS :=

$(TEST_VENV)/ready .venv-oldest/ready .venv-newest/ready: .venv-%/ready: pyproject.toml
	$(or $($*_PYTHON),$(PYTHON)) -m venv .venv-$*
	.venv-$*/bin/python --version
	.venv-$*/$(INSTALL) '.[test]' $(tensorflow_PACKAGE) $(jax_PACKAGE) $(torch_PACKAGE)
	.venv-$*/$(INSTALL_ALONE) keras-hub  # not tensorflow-text, which asks for an older TensorFlow
	.venv-$*/bin/pip uninstall --quiet --quiet --yes triton  # ends a process that has TensorFlow, github.com/tensorflow/tensorflow/issues/124205
	touch $@

.venv-mmdet/ready: Makefile constraints.txt
	$(oldest_PYTHON) -m venv .venv-mmdet
	.venv-mmdet/bin/pip install --quiet --disable-pip-version-check --constraint constraints.txt $(MMDET_BASE)
	.venv-mmdet/bin/pip install --quiet --disable-pip-version-check --no-deps $(MMDET_PACKAGES)
	touch $@

# In a folder of its own: it would overwrite the files of the newest.
.venv-newest/nightly/ready: .venv-newest/ready
	.venv-newest/bin/pip install --quiet --disable-pip-version-check --upgrade --no-deps --pre --target $(@D) keras-nightly
	touch $@

$(TEST_VENV)/benchmark-ready: $(TEST_VENV)/ready
	$(TEST_VENV)/bin/pip install --quiet --disable-pip-version-check --constraint constraints.txt $(BENCHMARK_PACKAGES)
	touch $@

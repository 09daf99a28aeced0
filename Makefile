# make report   set everything up, compare, plant a few mistakes, time, train a little on each side, draw report/index.html
# make test     set everything up, then lint, types and every test
# make docs     the guide, into site/
# make wheel    the package as a wheel, in dist/
# make gpu-test on a machine with a GPU: the PyTorch side on it against the oracle and the recorded Flux side, and short trainings
# make share    copy into julia/share what Julia trains with where Pkg adds the folder julia/ alone
# make version VERSION=0.2.0   the next version of both packages
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin

# The short training runs of the report: data set/network/method, and how long; then a mini-GPT on Python's own sources, and an MLP
# and a narrow ResNet-20 on the digits that come with TwinGrad; and the experiments of Benning et al., so much shorter than theirs.
RUNS              := donut2d/odenet/euler spiral2d/resnet/kutta4 squares2d/odenet-simplex/improved-euler
ITERATIONS        ?= 1000
TEXT_RUN          := report/training/text-python
TEXT_ITERATIONS   ?= 200
MLP_ITERATIONS    ?= 2000
RESNET_ITERATIONS ?= 100
PAPER_SCALE       ?= 0.02

.PHONY: report test docs setup lint python-test compare-test julia-test gpu-test wheel share version format clean

report: setup
	$(BIN)/twingrad compare --save report/comparison.json
	$(BIN)/twingrad audit --quick --out report/audit
	$(BIN)/twingrad bench --quick --out report/bench.json
	set -e; for side in $$($(BIN)/twingrad sides); do \
	  for run in $(RUNS); do \
	    set -- $$(echo $$run | tr / ' '); \
	    $(BIN)/twingrad train control --side $$side --dataset $$1 --network $$2 --method $$3 \
	      --iterations $(ITERATIONS) --out report/training/$$1-$$2-$$3 --no-figures; \
	  done; \
	  $(BIN)/twingrad train gpt --side $$side --iterations $(TEXT_ITERATIONS) --evaluate-every 50 \
	    --out $(TEXT_RUN) --no-figures; \
	  $(BIN)/twingrad generate --side $$side --checkpoint $(TEXT_RUN) --prompt "def " --tokens 400 \
	    > $(TEXT_RUN)/$$side/sample.txt; \
	  $(BIN)/twingrad train mlp --side $$side --iterations $(MLP_ITERATIONS) --out report/training/mlp-digits; \
	  $(BIN)/twingrad train resnet --side $$side --iterations $(RESNET_ITERATIONS) --width 8 --evaluate-every 50 \
	    --out report/training/resnet20-digits; \
	done
	$(BIN)/twingrad attack --checkpoint report/training/mlp-digits --out report/experiments/attack-mlp
	$(BIN)/twingrad experiment depth --part flow --out report/experiments/depth
	$(BIN)/twingrad experiment paper --seeds 1 --scale $(PAPER_SCALE) --out report/experiments/paper
	$(BIN)/twingrad experiment flow --quick --finest 16 --out report/experiments/flow
	$(BIN)/twingrad report --out report

# Lint and the Python tests need no Julia: they run while it compiles its packages.
test: $(VENV)/installed
	@$(MAKE) --no-print-directory --jobs=2 setup lint python-test
	@$(MAKE) --no-print-directory --jobs=2 --output-sync=target --keep-going compare-test julia-test

python-test: $(VENV)/installed
	$(BIN)/pytest tests -n 2 --dist loadfile

compare-test:
	$(BIN)/pytest compare

# Julia's own tests, where there is a Julia, run beside the comparison. Bounds checks stay as the code has them, so that
# nothing is precompiled twice; what the tests compile for themselves is run once, and -O1 compiles it in 0.6 of the time.
julia-test:
	@if $(BIN)/twingrad julia --version >/dev/null 2>&1; then \
	  $(BIN)/twingrad julia -e 'using Pkg; Pkg.test("TwinGrad"; julia_args=["--check-bounds=auto", "-O1"])'; \
	else \
	  echo "Julia's own tests were NOT RUN: there is no Julia on this machine."; \
	fi

lint: $(VENV)/installed
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

gpu-test: $(VENV)/installed
	$(BIN)/twingrad compare --recorded flux --dtype float64 --device cuda
	$(BIN)/twingrad train gpt --device cuda --iterations 20 --out report/gpu/gpt --no-figures
	$(BIN)/twingrad train resnet --device cuda --iterations 20 --width 8 --out report/gpu/resnet --no-figures

wheel: $(VENV)/installed
	$(BIN)/hatchling build -d dist

share:
	rm -rf julia/share
	mkdir julia/share
	cp -R shared_fixtures/presets.toml shared_fixtures/digits julia/share

# Julia's Project.toml has the version, of Python's package too; CITATION.cff repeats it (docs/releasing.md).
version:
	$(BIN)/hatchling version "$(VERSION)"
	sed -i.old 's/^version: .*/version: $(VERSION)/' CITATION.cff
	rm CITATION.cff.old

setup: $(VENV)/installed
	$(BIN)/twingrad setup

$(VENV)/installed: pyproject.toml constraints.txt julia/Project.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --no-compile --constraint constraints.txt --editable '.[dev]'
	touch $@

docs: $(VENV)/docs-installed
	$(BIN)/mkdocs build --strict

$(VENV)/docs-installed: $(VENV)/installed
	$(BIN)/pip install --quiet --no-compile --constraint constraints.txt --editable '.[docs]'
	touch $@

format:
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

clean:
	rm -rf $(VENV) report site dist

# make demo    train D3G on a real MuJoCo task to its highest score, in minutes
# make run     train with arguments of your own: make run ARGS="--env-id Hopper-v4 --seed 3"
# make test    run the tests, on all cores
# make lint    check and check the format of the code
# Each sets up what it needs in .venv first.

PYTHON ?= python3
BIN = .venv/bin
DEMO = runs/demo

.PHONY: demo run test lint
.DEFAULT_GOAL := demo

# Rebuilt from nothing when the pins change. The stamp is written last, so that half an installation is not kept. The
# packages are compiled on all cores, where pip takes one, without their tests; what cannot be is for a newer Python, and
# nothing imports it.
.venv/installed: requirements.txt
	rm -rf .venv
	@echo "installing the pinned packages into .venv, once: this takes some minutes"
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --no-compile --requirement requirements.txt
	$(BIN)/python -m compileall -q -j 0 -x /tests/ .venv/lib >/dev/null || true
	touch $@

demo: .venv/installed
	$(BIN)/python d3g_continuous.py --env-id InvertedDoublePendulum-v4 --learning-starts 1000 --total-timesteps 25000 \
		--run-dir $(DEMO) --resume
	$(BIN)/python benchmark/figure7.py $(DEMO) --output $(DEMO)/curve.png
	@echo "Everything of the run is in $(DEMO): args.json, evaluations.csv, model.pt, TensorBoard's events and curve.png."

run: .venv/installed
	$(BIN)/python d3g_continuous.py $(ARGS)

test: .venv/installed
	$(BIN)/pytest -n auto --dist loadfile

lint: .venv/installed
	$(BIN)/ruff check
	$(BIN)/ruff format --check

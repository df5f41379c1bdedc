# make demo: train, test and save on the sample tiles, map the sample scene by windows and by pixels, export.  make test: everything that is checked.
# make lecture: every technique of the lecture shown, on one page.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -q
# Beside a clone called geotl, `import geotl` would find that folder before setuptools' own hook.
EDITABLE := --config-settings editable_mode=compat -e

.PHONY: demo test test-export fuzz kills disks lint bench catalogue lecture practical openlayers clean

demo: $(VENV)/.installed
	$(BIN)/geotl run sample_source -o runs/sample_source --resume
	$(BIN)/geotl run sample_target -o runs/sample_target --resume
	$(BIN)/geotl run sample_scene -o runs/sample_scene --resume
	$(BIN)/geotl map runs/sample_scene/model.safetensors sample_tiles/scene.tif -o runs/map/map.tif --overwrite
	$(BIN)/geotl export runs/sample_scene/model.safetensors --format onnx -o runs/export/model.onnx --overwrite
	$(BIN)/geotl run sample_pixels model.weights=runs/sample_source/model.safetensors -o runs/sample_pixels --resume
	$(BIN)/geotl map runs/sample_pixels/model.safetensors sample_tiles/scene.tif -o runs/pixels/map.tif --overwrite
	$(BIN)/geotl accuracy runs/pixels/map.tif sample_tiles/truth.tif
	@echo "Look at runs/sample_target/report.html, runs/sample_pixels/report.html, runs/map/map.html and runs/pixels/map.html"

# A process for each of two cores, files whole since their tests share what they made; one thread
# each, in what they start too.
test: $(VENV)/.tested lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

# Every backbone to ONNX and torch.export, with 1, 3 and 5 bands, 1 and 4 views.
test-export: $(VENV)/.tested
	$(BIN)/python -m pytest tests/export/test_export_matrix.py -m export_matrix

# Damaged files of every kind that is read, for FUZZ_SECONDS or FUZZ_MUTATIONS files, from FUZZ_SEED;
# what goes wrong is kept and reported.
FUZZ_SECONDS ?= 300
FUZZ_MUTATIONS ?=
FUZZ_SEED ?= 0
fuzz: $(VENV)/.tested
	$(BIN)/python -W ignore tests/faults/fuzzing.py --seconds $(FUZZ_SECONDS) $(if $(FUZZ_MUTATIONS),--mutations $(FUZZ_MUTATIONS)) --seed $(FUZZ_SEED)

# Commands killed at KILLS random moments, from KILLS_SEED, and made again: a table of what went wrong.
KILLS ?= 200
KILLS_SEED ?= 0
kills: $(VENV)/.tested
	$(BIN)/python -W ignore tests/faults/kills.py --kills $(KILLS) --seed $(KILLS_SEED)

# The same with DISKS disks that fill up at random.
DISKS ?= 200
disks: $(VENV)/.tested
	$(BIN)/python -W ignore tests/faults/kills.py --disks $(DISKS) --seed $(KILLS_SEED)

lint: $(VENV)/.tested
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The messages of pages and figures, taken from the sources and compiled; then write the French of
# new ones into geotl.po and run it again.
catalogue: $(VENV)/.tested
	$(BIN)/python docs/catalogue.py

lecture: $(VENV)/.installed
	$(BIN)/geotl lecture --all -o runs/lecture
	@echo "Look at runs/lecture/index.html"

bench: $(VENV)/.tested
	$(BIN)/python benchmarks/presets.py
	$(BIN)/python benchmarks/accuracy.py
	$(BIN)/python benchmarks/accuracy.py --backbone squeezenet1_1
	$(BIN)/python benchmarks/peers.py

# The executed notebook of docs/practical; with DATA=FOLDER practical_mnist.ipynb,
# on your own MNIST and Fashion-MNIST files.
practical: $(VENV)/.tested
	$(BIN)/python docs/practical/make_practical.py $(if $(DATA),--data $(DATA) --out docs/practical/practical_mnist.ipynb)

# OpenLayers for the page of geotl label, from the versions in its package-lock.json. Needs Node 20
# and npm, and the npm registry; the files are committed, so that nothing else needs them.
LABEL_ASSETS := geotl/labelling/assets
openlayers:
	work=$$(mktemp -d) && cp $(LABEL_ASSETS)/bundle/* $$work && assets=$$(realpath $(LABEL_ASSETS)) \
	  && cd $$work && npm ci --ignore-scripts --no-audit --no-fund && node build.js $$assets; \
	  status=$$?; rm -rf $$work; exit $$status

# The environment is made again when the pins change, and added to when pyproject.toml does.
$(VENV)/.made: constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("geotl needs Python 3.11 or newer; set PYTHON=") if sys.version_info < (3, 11) else 0'
	$(PYTHON) -m venv --clear $(VENV)
	touch $@

$(VENV)/.installed: $(VENV)/.made pyproject.toml
	@echo "Installing PyTorch and what else geotl needs; this takes minutes, and says nothing until it is done"
	$(PIP) install -c constraints.txt $(EDITABLE) '.[onnx]'
	touch $@

$(VENV)/.tested: $(VENV)/.installed
	$(PIP) install -c constraints.txt $(EDITABLE) '.[test]'
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info

# `make demo` runs an example, `make test` runs all tests. Both install what they need, and are fast the second time.
SHELL := /bin/bash
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

VENV := .venv
PYTHON := $(VENV)/bin/python
TOOLS := $(VENV)/.tools
WHEEL := $(VENV)/.wheel
# The log of the demo; each demo starts a new one.
DEMO := target/demo
# Runners register their logs, so that `replay` finds them from any directory. Keep those of demo, tests and benches out of the user's
# state directory.
export XDG_STATE_HOME := $(CURDIR)/target/state

SOURCES := Cargo.toml Cargo.lock bindings/pyproject.toml \
	$(shell find store engine replay admin bindings -type f \( -name '*.rs' -o -name '*.py' -o -name '*.pyi' -o -name '*.js' -o -name '*.css' -o -name Cargo.toml \) -not -path '*/target/*')

# Runs a command and shows its output only if it failed.
quietly = @mkdir -p $(VENV) && { $(1); } > $(VENV)/last.log 2>&1 || { cat $(VENV)/last.log; exit 1; }

.PHONY: help build develop demo test quick lint fuzz bench docs clean

help: ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

build: $(WHEEL) ## build the wheel and install it, with the `replay` command, into .venv

demo: $(WHEEL) ## run a workflow of 15 tasks, then replay that run
	@rm -rf $(DEMO) && mkdir -p $(DEMO)
	@cd $(DEMO) && $(CURDIR)/$(PYTHON) $(CURDIR)/bindings/examples/meters.py
	@echo && echo '$$ replay latest' && cd $(DEMO) && $(CURDIR)/$(VENV)/bin/replay latest

test: $(WHEEL) ## run all tests
	@$(PYTHON) tests/run.py

quick: $(TOOLS) ## check the changes since main: format, lints, types, unit tests
	@$(PYTHON) tests/quick.py

develop: $(TOOLS) ## install an editable debug build into .venv
	@rm -f $(WHEEL)
	$(call quietly,$(PYTHON) bindings/backend.py --profile dev && $(VENV)/bin/maturin develop --quiet --locked --manifest-path bindings/Cargo.toml)

# A warning, such as a broken link, is an error.
RUSTDOC := RUSTDOCFLAGS="-D warnings" cargo doc --quiet --no-deps --locked -p cloacina-store -p cloacina-engine -p cloacina-replay -p cloacina-admin

lint: $(WHEEL) ## check format, lints, types, stubs, documentation and import cycles
	$(call quietly,cargo fmt --all --check)
	$(call quietly,cargo clippy --quiet --workspace --all-targets --locked -- -D warnings)
	$(call quietly,cargo clippy --quiet -p cloacina-engine --no-default-features --locked -- -D warnings)
	$(call quietly,$(VENV)/bin/ruff check . && $(VENV)/bin/ruff format --check .)
	$(call quietly,$(VENV)/bin/mypy --strict bindings/python/cloaca bindings/backend.py)
	$(call quietly,$(PYTHON) -m mypy.stubtest cloaca)
	$(call quietly,$(RUSTDOC))
	@$(PYTHON) tests/javascript.py
	@$(PYTHON) tests/import_cycles.py
	@echo "lint: ok"

# Seconds for which `make fuzz` runs each target.
FUZZ_SECONDS ?= 60
FUZZ_TARGETS ?= $(notdir $(basename $(wildcard tests/fuzz/fuzz_targets/*.rs)))
FUZZ := target/fuzz
# No sanitizer: there is no unsafe code to check, and the stable compiler has none. No link-time optimization, because each target is
# a program of its own.
CARGO_FUZZ := CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 PATH="$(CURDIR)/target/tools/bin:$$PATH" cargo fuzz

fuzz: ## run each decoder under libFuzzer for FUZZ_SECONDS (60)
	@command -v cargo-fuzz >/dev/null || test -x target/tools/bin/cargo-fuzz || cargo install --quiet --root target/tools cargo-fuzz
	@for target in $(FUZZ_TARGETS); do \
		mkdir -p $(FUZZ)/corpus/$$target $(FUZZ)/found/$$target; \
		$(CARGO_FUZZ) run --fuzz-dir tests/fuzz --target-dir $(FUZZ) --sanitizer none --features libfuzzer $$target \
			$(FUZZ)/corpus/$$target tests/fuzz/corpus/$$target -- -max_total_time=$(FUZZ_SECONDS) -timeout=10 \
			-rss_limit_mb=2048 -artifact_prefix=$(FUZZ)/found/$$target/ > $(FUZZ)/$$target.log 2>&1 \
		&& echo "$$target: $$(ls $(FUZZ)/corpus/$$target | wc -l) new inputs, nothing found" \
		|| { echo "$$target: FAILED, see $(FUZZ)/$$target.log; the failing input is in $(FUZZ)/found/$$target"; failed=1; }; \
	done; test -z "$$failed"

bench: $(WHEEL) ## run the benchmarks; latencies are relative to the sync time of this disk
	@cargo build --quiet --release --locked -p cloacina-benches -p cloacina-replay --bins
	@target/release/engine
	@target/release/log
	@target/release/readers
	@target/release/scale
	@target/release/reading
	@$(PYTHON) benches/python/side_by_side.py
	@$(PYTHON) benches/python/json_speed.py

docs: $(WHEEL) ## build the documentation of Python and Rust
	$(call quietly,NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --quiet --strict --config-file docs/mkdocs.yml)
	$(call quietly,$(RUSTDOC))
	@echo "docs: target/site/index.html, target/doc/cloacina_engine/index.html"

clean: ## remove all build output
	@rm -rf target $(VENV)

$(TOOLS): bindings/requirements-dev.txt
	$(call quietly,python3 -m venv $(VENV) && $(PYTHON) -m pip install --quiet -r bindings/requirements-dev.txt)
	@touch $@

$(WHEEL): $(TOOLS) $(SOURCES)
	@echo "building cloaca (takes some minutes the first time) ..."
	$(call quietly,rm -rf $(VENV)/wheels && $(PYTHON) bindings/backend.py && $(VENV)/bin/maturin build --release --locked --manifest-path bindings/Cargo.toml --out $(VENV)/wheels && \
		$(PYTHON) -m pip install --quiet --force-reinstall --no-deps --no-index $(VENV)/wheels/*.whl)
	@touch $@

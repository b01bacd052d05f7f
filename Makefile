# The two commands of the README are `make run` and `make test`; `make help` lists the rest.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

CARGO ?= cargo
DURATION ?= 10s
# Loading into the kernel wants root; an ordinary user who may use sudo is asked by sudo itself.
SUDO := $(shell [ "$$(id -u)" = 0 ] || command -v sudo || true)
SKEP := target/release/skep
# rustup puts cargo here; a shell that was open before does not know it yet.
export PATH := $(PATH):$(HOME)/.cargo/bin

.PHONY: help run build test lint unit guests bench bench-vm bench-verifier fuzz deps deps-test install clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' Makefile | sed -E 's/:.*## /\t/' | expand -t 12

run: deps build ## install what is missing, build, show DURATION=10s of live system call latency (without root: of one command)
ifeq ($(or $(SUDO),$(filter 0,$(shell id -u))),)
	$(SKEP) run examples/syscall_latency.bpf.c -- sh -c 'ls -lR /usr >/dev/null'
else
	$(SUDO) $(SKEP) run --duration $(DURATION) examples/syscall_latency.bpf.c
endif

build: ## the release binary
	$(CARGO) build --release --locked -p skep-cli

test: deps-test lint unit ## install what is missing, run every test (guest kernels too)

lint: ## formatting and lints
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked --quiet -- -D warnings

unit: ## the tests alone
	$(CARGO) build --workspace --locked --bins
	$(CARGO) test --workspace --locked --no-fail-fast

guests: deps-test ## only the tests that boot guest kernels
	$(CARGO) build --workspace --locked --bins
	$(CARGO) test --locked -p xtask

bench: deps-test build ## skep and libbpf side by side; writes docs/performance.md
	$(CARGO) xtask bench

bench-vm: deps-test build ## the embedded engine, the kernel's compiler and rbpf side by side; writes docs/performance.md
	$(CARGO) xtask bench-vm

bench-verifier: deps-test ## skep's verifier and the kernel's side by side; writes docs/performance.md
	$(CARGO) xtask bench-verifier

fuzz: deps ## every fuzz target for FUZZ_SECONDS=60 each, then a million generated programs (wants root for the kernel's part)
	$(CARGO) xtask fuzz --seconds $(or $(FUZZ_SECONDS),60)

deps: ## what building and running needs
	@tools/install-deps run

deps-test: ## what the tests need besides
	@tools/install-deps run test

install: build ## to PREFIX=/usr/local
	install -D -m 755 $(SKEP) $(DESTDIR)$(or $(PREFIX),/usr/local)/bin/skep

clean: ## what was built (guest kernels too)
	$(CARGO) clean

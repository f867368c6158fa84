# Millrace. `make help` lists what there is to make.

# The installed Go may be older than go.mod asks for: the go command then
# brings the right toolchain from the module mirror.
export GOTOOLCHAIN := go1.27.4

GO       ?= go
# The gofmt of the same toolchain: an older one does not know generic methods.
GOFMT    = $$($(GO) env GOROOT)/bin/gofmt
BIN      := bin
VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS  := -s -w -X main.version=$(VERSION)
BENCH    ?= .
COUNT    ?= 6
TESTFLAGS ?=
ROUNDS   ?= 7
# Heavy connectors are Go modules of their own.
MODULES  := connector/postgres
SYSTEMFLAGS ?=
RELIABILITYFLAGS ?=
PEERSFLAGS ?=

.DEFAULT_GOAL := help

.PHONY: help
help: ## what there is to make
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: build
build: ## bin/millrace and bin/flights
	$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o $(BIN)/millrace ./cmd/millrace
	$(GO) build -trimpath -ldflags '-s -w' -o $(BIN)/flights ./examples/flights

.PHONY: demo
demo: build ## the main job on real input, with a worker killed half-way (16 s)
	$(GO) build -trimpath -o $(BIN)/demo ./cmd/demo
	@$(BIN)/demo --millrace $(BIN)/millrace --job $(BIN)/flights --input examples/flights/flights.csv

.PHONY: test
test: ## every test
	$(GO) test $(TESTFLAGS) ./...
	$(GO) test -tags failpoints $(TESTFLAGS) -run 'Points|Parse' ./internal/failpoint ./jobmanager
	for m in $(MODULES); do $(GO) test -C $$m $(TESTFLAGS) ./... || exit 1; done

.PHONY: race
race: ## tests in this process under the race detector, with fewer seeds
	$(GO) test -race -short $(TESTFLAGS) ./...
	for m in $(MODULES); do $(GO) test -C $$m -race -short $(TESTFLAGS) ./... || exit 1; done

.PHONY: lint
lint: ## golangci-lint with .golangci.yml
	$(GO) build -C tools/lint -o ../../$(BIN)/golangci-lint github.com/golangci/golangci-lint/v2/cmd/golangci-lint
	$(BIN)/golangci-lint run ./...
	for m in $(MODULES); do (cd $$m && $(CURDIR)/$(BIN)/golangci-lint run -c $(CURDIR)/.golangci.yml ./...) || exit 1; done

.PHONY: fmt
fmt: ## gofmt over the tree
	$(GOFMT) -w $$(git ls-files '*.go' | grep -v -E '\.pb\.go$$|\.connect\.go$$')

.PHONY: generate
generate: ## generated code, from proto/
	$(GO) build -C tools/buf -o ../../$(BIN)/ tool
	PATH="$(CURDIR)/$(BIN):$$PATH" buf lint
	PATH="$(CURDIR)/$(BIN):$$PATH" buf generate
	$(GO) generate ./...

.PHONY: check
check: ## formatting, vet, module tidiness, import table
	@found="$$($(GOFMT) -l $$(git ls-files '*.go'))"; test -z "$$found" || { echo "$$found"; echo 'not gofmt-ed: make fmt'; exit 1; }
	$(GO) vet ./...
	$(GO) mod tidy -diff
	$(GO) mod verify
	for m in $(MODULES); do $(GO) vet -C $$m ./... && $(GO) mod tidy -C $$m -diff && $(GO) mod verify -C $$m || exit 1; done
	$(GO) test ./internal/archtest

.PHONY: bench
bench: ## benchmarks, ready for benchstat (BENCH=regexp COUNT=6)
	$(GO) test -run '^$$' -bench '$(BENCH)' -benchmem -count $(COUNT) ./... | tee bench.txt

.PHONY: bench-system
bench-system: build ## the whole system: ready, memory, submit, recovery, sizes (ROUNDS=7)
	$(GO) run ./bench/system -rounds $(ROUNDS) $(SYSTEMFLAGS)

NEXMARKFLAGS ?= --query all

.PHONY: bench-nexmark
bench-nexmark: build ## the Nexmark queries on a cluster of their own (NEXMARKFLAGS='--query q5 --events 50M')
	$(BIN)/millrace bench nexmark $(NEXMARKFLAGS)

.PHONY: bench-aims
bench-aims: build ## latency at half of the greatest rate, 20 M keys, one core against two (half an hour)
	$(BIN)/millrace bench nexmark --query count --rate 1M --throttle 50%
	$(BIN)/millrace bench nexmark --query count --rate 1M --throttle 50% --workers 2
	$(BIN)/millrace bench nexmark --query q5k --rate 1M --throttle 1M --events 60M
	$(BIN)/millrace bench nexmark --query q5 --slide 10ms --events 20M
	$(BIN)/millrace bench nexmark --query q5k --rate 1M --events 60M
	$(BIN)/millrace bench nexmark --query count --job=--keys=20000000 --slot-memory 8GiB -o json
	taskset -c 0 $(BIN)/millrace bench nexmark --query q0,q5,count --parallelism 1
	taskset -c 0,1 $(BIN)/millrace bench nexmark --query q0,q5,count --parallelism 2

.PHONY: bench-reliability
bench-reliability: build ## checkpoints, backpressure, recovery and rescaling of much state (RELIABILITYFLAGS=-kills 10)
	$(GO) build -trimpath -o $(BIN)/accounts ./bench/reliability/accounts
	$(GO) run ./bench/reliability $(RELIABILITYFLAGS)

.PHONY: bench-peers
bench-peers: build ## Nexmark here, in Flink and in Jet, in one run (hours; PEERSFLAGS='-queries q5 -rounds 1'; go doc ./bench/peers)
	$(GO) run ./bench/peers $(PEERSFLAGS)

KILLS    ?= 200
DURATION ?= 0s
SEED     ?= 0
CHAOSFLAGS ?= -mixed

.PHONY: chaos
chaos: ## real processes, broken at random, every commit checked (KILLS=200 DURATION=0s SEED=0 CHAOSFLAGS=-mixed; -killing for mostly kills)
	$(GO) run ./internal/chaos/main -kills $(KILLS) -duration $(DURATION) -seed $(SEED) -json chaos.json $(CHAOSFLAGS)

.PHONY: chaos-controls
chaos-controls: ## each planted bug must be found by a run of its own, which passes without it (SEED=0; 10 min)
	$(GO) run ./internal/chaos/main -controls -quiet -seed $(SEED)

.PHONY: cover
cover: ## test coverage, as coverage.html
	$(GO) test -coverprofile=coverage.out ./...
	$(GO) tool cover -html=coverage.out -o coverage.html

.PHONY: clean
clean: ## what make made
	rm -rf $(BIN) coverage.out coverage.html bench.txt chaos.json

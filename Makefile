# The modules are what go.work lists, and nothing else knows them. One alone: make unit MODULES=./core
MODULES := $(shell go work edit -json | sed -n 's/.*"DiskPath": "\(.*\)".*/\1/p')
# They need AWS CDK, which takes minutes to build: no race detector, and a target of their own.
CDK     := ./cdk ./examples/serverless/stack
PLAIN   := $(filter-out $(CDK),$(MODULES))
# Of what is made for the tests: tools, services. Deleted by `make clean`.
CACHE   := $(CURDIR)/.cache
FUZZ    ?= 30s

LOCALSTACK := $(CACHE)/bin/localstack -cache $(CACHE)
# go test, and what it ran; `make test` adds all up.
GOTEST     := $(CACHE)/bin/report test
LINT       := $(CACHE)/bin/staticcheck -checks all,-ST1000,-ST1003 ./...
MAKEFLAGS  += --no-print-directory

.DEFAULT_GOAL := help
.PHONY: help test lint fmt tidy docs licences tools release consumer modules unit test-cdk localstack browser soak quickstart bench fuzz clean

help: ## this text
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

test: $(CACHE)/bin/report ## everything that CI runs, and in the end what ran; installs and starts what it needs
	@$(CACHE)/bin/report steps $(MAKE) lint docs tools consumer unit test-cdk quickstart

lint: fmt tidy $(CACHE)/bin/staticcheck ## gofmt, go vet, go fix, go mod tidy, staticcheck, actionlint, licences
	go vet work
	@mkdir -p $(CACHE)
	@go fix -diff work > $(CACHE)/fix.diff || (cat $(CACHE)/fix.diff; exit 1)
	@test ! -s $(CACHE)/fix.diff || (cat $(CACHE)/fix.diff; echo "run go fix work"; exit 1)
	@for m in $(MODULES); do (cd $$m && $(LINT)) || exit 1; done
	@cd tools && GOWORK=off go run github.com/rhysd/actionlint/cmd/actionlint -shellcheck= -pyflakes= $(CURDIR)/.github/workflows/*.yml
	@test "$$(cd core && GOWORK=off go list -m all | wc -l)" = 1 || (echo "core requires something"; exit 1)
	@GOWORK=off go run -C tools ./licences -root $(CURDIR)

docs: ## links and snippets of all Markdown files; tables of brokers and clauses
	@GOWORK=off go run -C tools ./docs -root $(CURDIR)

licences: ## what each module depends on, with the licence
	@GOWORK=off go run -C tools ./licences -root $(CURDIR) -list

tools: export GOWORK = off
tools: $(CACHE)/bin/staticcheck $(CACHE)/bin/report ## tests of the tools: releases in a scratch repository
	@cd tools && go vet ./... && $(LINT) && $(GOTEST) -shuffle=on ./...

release: ## what would be released now, and why; to do it, see tools/release
	@GOWORK=off go run -C tools ./release -root $(CURDIR)

consumer: ## what a program takes upon itself that uses one broker
	@GOWORK=off go run -C tools ./consumer -root $(CURDIR)

fmt:
	@out=$$(gofmt -l .); test -z "$$out" || (echo "not formatted:"; echo "$$out"; exit 1)

tidy:
	@for m in $(MODULES) ./tools; do (cd $$m && GOWORK=off go mod tidy -diff) || (echo "run go mod tidy in $$m"; exit 1); done

modules: ## those that unit tests, for CI
	@printf '%s\n' $(PLAIN)

# The examples that need a service, when their module is tested.
RUNS := for x in sqs eventbridge sns fanout eventddb events3 "events3 -route topic" "events3 -route bus"; do go run ./examples/$$x | grep "the ledger adds up"; done

unit: $(CACHE)/bin/localstack $(CACHE)/bin/report ## tests of all modules, by the race detector, in random order, with LocalStack
	@test -n "$(PLAIN)" || (echo "no module for unit: see test-cdk"; exit 1)
	$(LOCALSTACK) run -- sh -ec '$(GOTEST) -race -shuffle=on -parallel 8 -timeout 30m $(addsuffix /...,$(PLAIN)); $(if $(filter ./examples,$(PLAIN)),$(RUNS))'

test-cdk: export JSII_SILENCE_WARNING_END_OF_LIFE_NODE_VERSION = 20
test-cdk: $(CACHE)/bin/report ## constructs and stacks: templates, functions, cfn-lint; needs Node.js. 4 min at first, then 1
	@for m in $(CDK); do (cd $$m && GOWORK=off $(GOTEST) -ldflags="-s -w" -shuffle=on ./...) || exit 1; done
	@CACHE=$(CACHE) cdk/lint.sh cdk/testdata/*.template.json examples/serverless/stack/testdata/*.template.json

localstack: $(CACHE)/bin/localstack ## a LocalStack for development, until Ctrl-C
	$(LOCALSTACK) start

browser: ## a browser for the tests: prints its path; installs Chromium where it can
	@go run ./examples/internal/browser/cmd/browser

soak: $(CACHE)/bin/localstack $(CACHE)/bin/report ## the long tests whole, of which `test` runs a tenth; one module after the other, for they share LocalStack
	SOAK=1 $(LOCALSTACK) run -- $(GOTEST) -race -shuffle=on -p 1 -parallel 8 -timeout 90m $(addsuffix /...,$(PLAIN))

quickstart: ## the quick start: text that ships, file, standard input
	@go run ./examples/quickstart | grep -q "the ledger adds up"
	@go run ./examples/quickstart README.md | grep -q "the ledger adds up"
	@go run ./examples/quickstart < README.md | grep -q "the ledger adds up"
	@go run ./examples/live -addr :0 -for 2s | grep -q "the ledger adds up"

bench: ## benchmarks with their baseline; writes docs/benchmarks.md, fails on a missed budget
	GOWORK=off go run -C tools ./bench -root $(CURDIR)

fuzz: ## each fuzz target for FUZZ=30s
	@for m in $(MODULES); do (cd $$m && \
	  for p in $$(go list ./...); do for f in $$(go test -list '^Fuzz' $$p | grep ^Fuzz); do \
	    echo "$$p $$f" && go test -run '^$$' -fuzz "^$$f\$$" -fuzztime $(FUZZ) $$p || exit 1; done; done) || exit 1; done

$(CACHE)/bin/localstack: $(wildcard qtest/localstack/*.go qtest/localstack/*.txt qtest/localstack/cmd/localstack/*.go)
	@mkdir -p $(dir $@)
	go build -o $@ ./qtest/localstack/cmd/localstack

clean: ## remove what was made
	rm -rf $(CACHE)

$(CACHE)/bin/staticcheck: tools/go.mod
	@mkdir -p $(dir $@)
	cd tools && GOWORK=off go build -o $@ honnef.co/go/tools/cmd/staticcheck

$(CACHE)/bin/report: $(wildcard tools/report/*.go)
	@mkdir -p $(dir $@)
	@cd tools && GOWORK=off go build -o $@ ./report

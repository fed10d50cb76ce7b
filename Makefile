# One command for each thing that people do here. `make help` lists them.
SHELL := /bin/bash
.DEFAULT_GOAL := help

PYTHON := /usr/bin/python3
TOOL = go tool -modfile=tools/$(1).mod

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16

bin/postbus: $(shell find cmd client db gen internal service -name '*.go' -not -name '*_test.go' -o -name '*.sql' -o -name 'openapi.json' 2>/dev/null) go.mod go.sum
	go build -o $@ ./cmd/postbus

.PHONY: build
build: bin/postbus ## build bin/postbus

.PHONY: run
run: bin/postbus ## start a bus on a private PostgreSQL
	@exec bin/postbus dev

.PHONY: test
test: test-deps ## install what the tests need and run them all
	go vet ./...
	go test -race -timeout 20m ./...
	go -C bench vet ./...
	go -C bench test -race -timeout 10m ./...

.PHONY: test-long
test-long: ## run in full the tests of many readers and channels (10,000 and 1,000,000), and of quiet behind nginx
	POSTBUS_TEST_LONG=1 go test -count=1 -timeout 60m -v ./tests -run 'ManyReaders|ManyChannels|StalledReaders|BehindNginx'

.PHONY: test-versions
test-versions: test-deps ## run the tests on other releases of PostgreSQL (VERSIONS="14 15 16 17 18")
	@./tests/versions $(VERSIONS) -- -p 1

.PHONY: test-deps
test-deps: ## install what the tests need (Debian)
	@./tests/install

.PHONY: lint
lint: ## check style, import arrows and the proto
	$(call TOOL,lint) golangci-lint run ./...
	cd bench && go tool -modfile=../tools/lint.mod golangci-lint run ./...
	$(call TOOL,buf) buf lint

.PHONY: breaking
breaking: ## check that the proto breaks no client of BASE (default: the last commit)
	$(call TOOL,buf) buf breaking --against '.git#ref=$(or $(BASE),HEAD)'

.PHONY: generate
generate: ## generate gen/ from proto/, db/ from queries/
	$(call TOOL,buf) buf generate
	CGO_ENABLED=0 $(call TOOL,sqlc) sqlc generate

.PHONY: generated
generated: generate ## check that generating again changes nothing
	git diff --exit-code -- gen db
	@test -z "$$(git ls-files --others --exclude-standard gen db)"

.PHONY: vuln
vuln: ## check dependencies for known vulnerabilities
	$(call TOOL,vuln) govulncheck ./...

.PHONY: fuzz
fuzz: ## fuzz whatever parses what the network brings, 30 s each (FUZZTIME)
	@for p in service service/odoo client; do \
		for f in $$(grep -ho 'func Fuzz[A-Za-z]*' $$p/*_test.go | cut -d' ' -f2); do \
			go test ./$$p -run '^$$' -fuzz "^$$f$$" -fuzztime $(or $(FUZZTIME),30s) -parallel 1 || exit 1; done; done

.PHONY: robust
robust: test-deps ## random traffic under faults, judged, 25 s a scenario (ROBUST_TIME, ROBUST_SEED); then planted bugs
	ROBUST_TIME=$(or $(ROBUST_TIME),25s) go test -race -count=1 -timeout 60m -v -run 'TestRobust|TestNoWakeUpIsLost' ./tests/robust
	ROBUST_TIME=$(or $(ROBUST_TIME),12s) go test -count=1 -timeout 120m -v -run TestPlantedBugsAreFound ./tests/robust -planted

.PHONY: bench
bench: ## print the numbers of the README (some 25 minutes; BENCH=-quick: 5)
	go -C bench run . $(BENCH)

.PHONY: clean
clean: ## remove what was built
	rm -rf bin

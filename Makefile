# The workshop. `build`, `run` and `test` need Go and PostgreSQL's server binaries, nothing else;
# the pinned tools in .bin serve `generate` and `verify`.

BIN        := $(CURDIR)/.bin
CACHE      := $(CURDIR)/.cache
VERSION    := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
TIERS      := international regional local
# The protos that `verify` compares with: what main had when this branch left it, or the commit before.
BASE       ?= $(shell main=$$(git merge-base HEAD origin/main 2>/dev/null); \
                [ -n "$$main" ] && [ "$$main" != "$$(git rev-parse HEAD)" ] && echo $$main || echo HEAD~)

# Tools that are not in tools/go.mod: their requirements would drag ours along.
PROTOC_GEN_GO := google.golang.org/protobuf/cmd/protoc-gen-go@v1.36.12
SQLC          := github.com/sqlc-dev/sqlc/cmd/sqlc@v1.31.1
GOLANGCI_LINT := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0

export CGO_ENABLED ?= 0

.DEFAULT_GOAL := help
.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

##### Build, run, test

.PHONY: build
build: ## build bin/chapterhouse
	go build -buildvcs=false -ldflags '-s -w -X main.version=$(VERSION)' -o bin/chapterhouse ./services/cmd/chapterhouse

.PHONY: run
run: build ## build and start the whole platform with demo data (ARGS="--reset --http 127.0.0.1:8081")
	@exec bin/chapterhouse up --demo $(ARGS)

.PHONY: test
test: ## run every test (ARGS="-run TestStanding ./services/international")
	@go run tools/testrun/main.go -shuffle=on -timeout=20m $(or $(ARGS),work)

.PHONY: test-race
test-race: ## the same under the race detector (needs a C compiler)
	@CGO_ENABLED=1 go run tools/testrun/main.go -race -shuffle=on -timeout=40m $(or $(ARGS),work)

# Package and function; Go fuzzes one at a time. FUZZ_TARGETS=gateway:FuzzForm is not among them, because all that the
# gateway imports is compiled anew for it, which takes minutes.
FUZZ_TARGETS ?= internal/source:FuzzReader internal/source:FuzzProtected internal/address:FuzzCanonical

.PHONY: fuzz
fuzz: ## fuzz what reads strangers' files and addresses, each for 30 s (FUZZ=5m for more)
	@for target in $(FUZZ_TARGETS); do \
		go test -run='^$$' -fuzz="^$${target#*:}$$" -fuzztime=$(or $(FUZZ),30s) ./services/$${target%:*} || exit 1; \
	done

.PHONY: bench
bench: ## measure what is promised, as ratios (ARGS=./services/... for every benchmark)
	go test -run='^$$' -bench=. -timeout=60m $(or $(ARGS),./services/international ./services/local ./services/internal/platformtest)

.PHONY: bench-scale
bench-scale: ## load a million members (SCALE=100000 for fewer) and measure what must not depend on their number
	CHAPTERHOUSE_SCALE=$(or $(SCALE),1000000) go test -run='^$$' -bench='^BenchmarkScale$$' -benchtime=1x -timeout=60m $(or $(ARGS),./services/international)

.PHONY: soak
soak: ## run the kill test for an hour (SOAK=10m for less)
	CHAPTERHOUSE_SOAK=$(or $(SOAK),1h) go test -count=1 -v -run='^TestKillsLoseNothing' -timeout=3h $(or $(ARGS),./services/internal/platformtest)

##### Generated code

.PHONY: generate
generate: generate-proto generate-openapi generate-sql ## make gen/ and services/*/db from the protos and the SQL

.PHONY: generate-proto
generate-proto: tools proto-deps
	$(BIN)/buf generate

# $(call openapi,DIR) writes the document into DIR; it is valid OpenAPI 3.1 or not written.
define openapi
	@$(BIN)/buf generate --template tools/openapi/buf.gen.yaml --output $(CACHE)/openapi
	@$(BIN)/buf build proto --output $(CACHE)/openapi/image.binpb
	@GOWORK=off go -C tools run ./openapi $(CACHE)/openapi/api.swagger.json $(CACHE)/openapi/image.binpb \
		$(CURDIR)/services/gateway/openapi-overlay.json $(1)
endef

.PHONY: generate-openapi
generate-openapi: tools generate-proto
	$(call openapi,$(CURDIR)/gen/openapi)

.PHONY: generate-sql
generate-sql: tools
	$(BIN)/sqlc generate --file services/sqlc.yaml

# Third-party imports of our protos, printed from the Go modules that carry them.
.PHONY: proto-deps
proto-deps: $(CACHE)/proto-deps/.made

$(CACHE)/proto-deps/.made: tools/go.mod tools/protodeps/main.go
	@GOWORK=off go -C tools run ./protodeps $(CACHE)/proto-deps
	@touch $@

##### Verify

.PHONY: verify
verify: verify-modules lint lint-proto breaking verify-proto verify-openapi verify-sql ## lint; generated code, protos and OpenAPI are current and break nothing
	@echo 'verify: all well'

.PHONY: verify-modules
verify-modules:
	@for module in gen services tools; do \
		GOWORK=off go -C $$module mod tidy -diff || { echo "$$module/go.mod: run \`GOWORK=off go -C $$module mod tidy\`" >&2; exit 1; }; \
	done

.PHONY: lint
lint: tools
	cd services && $(BIN)/golangci-lint run ./...
	cd tools && GOWORK=off $(BIN)/golangci-lint run ./... && GOWORK=off go test ./...

.PHONY: fmt
fmt: tools ## format all Go code
	cd services && $(BIN)/golangci-lint fmt ./...
	cd tools && GOWORK=off $(BIN)/golangci-lint fmt ./...

.PHONY: lint-proto
lint-proto: tools proto-deps
	$(BIN)/buf format --diff --exit-code proto
	$(BIN)/buf lint

# The earlier protos go into a folder with the imports beside them: buf cannot read these from git.
.PHONY: breaking
breaking: tools proto-deps
	@if ! git cat-file -e $(BASE):proto 2>/dev/null; then \
		echo 'breaking: skipped, $(BASE) has no protos to compare with'; \
	else \
		old=$$(mktemp -d) && trap 'rm -rf "$$old"' EXIT && \
		git archive $(BASE) buf.yaml proto | tar -x -C "$$old" && \
		mkdir "$$old/.cache" && cp -R $(CACHE)/proto-deps "$$old/.cache/" && \
		echo "buf breaking against $$(git rev-parse --short $(BASE))" && \
		$(BIN)/buf breaking --against "$$old"; \
	fi

# Generates beside the tree and compares, so that nobody's uncommitted work is touched.
.PHONY: verify-proto
verify-proto: tools proto-deps
	@new=$$(mktemp -d) && trap 'rm -rf "$$new"' EXIT && \
	$(BIN)/buf generate --output "$$new" && \
	diff -r "$$new/gen/chapterhouse" gen/chapterhouse || { echo 'gen/ is not what proto/ makes: run `make generate`' >&2; exit 1; }

.PHONY: verify-openapi
verify-openapi: tools proto-deps
	$(call openapi,$(CACHE)/openapi/new)
	@diff -r $(CACHE)/openapi/new gen/openapi || { echo 'gen/openapi is not what proto/ and its overlay make: run `make generate`' >&2; exit 1; }

.PHONY: verify-sql
verify-sql: tools
	@$(BIN)/sqlc diff --file services/sqlc.yaml || { echo 'services/*/db is not what its SQL makes: run `make generate`' >&2; exit 1; }

##### Tools

# One stamp a pin: a tool is built again when its version changes and not otherwise.
TOOLS_STAMP := $(BIN)/.tools-$(shell cksum < tools/go.mod | cut -d' ' -f1)
stamp        = $(BIN)/.$(notdir $(subst @,-,$(1)))

.PHONY: tools
tools: $(TOOLS_STAMP) $(call stamp,$(PROTOC_GEN_GO)) $(call stamp,$(SQLC)) $(call stamp,$(GOLANGCI_LINT)) ## build the pinned tools into .bin (minutes, once)

$(TOOLS_STAMP):
	@echo 'tools: building buf and the protoc plugins (some minutes, once)'
	@mkdir -p $(BIN) && rm -f $(BIN)/.tools-*
	GOWORK=off GOBIN=$(BIN) go -C tools install tool
	@touch $@

define install-pinned
$(call stamp,$(1)):
	@echo 'tools: building $(notdir $(1)) (some minutes, once)'
	@mkdir -p $(BIN) && rm -f $(BIN)/.$(firstword $(subst @, ,$(notdir $(1))))-v*
	GOWORK=off GOBIN=$(BIN) go install $(1)
	@touch $$@
endef
$(foreach tool,$(PROTOC_GEN_GO) $(SQLC) $(GOLANGCI_LINT),$(eval $(call install-pinned,$(tool))))

.PHONY: clean
clean: ## remove what was built; .chapterhouse (the data of `make run`) stays
	rm -rf bin $(BIN) $(CACHE)

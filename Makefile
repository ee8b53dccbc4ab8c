SHELL := /bin/sh
GO ?= go
# A Go that .ci/go has fetched, because the machine has none that will do, goes before those of the machine.
export PATH := $(CURDIR)/.go/bin:$(PATH)
PROSODY_12 = $(shell command -v prosody)
PROSODY_13 = $(CURDIR)/.prosody/13/usr/bin/prosody
# The packages whose tests talk to Prosody; they run against each version.
INTEGRATION = ./auth ./pkg/prosodytest/... ./component/... ./cmd/... ./config/prosody/...
FUZZ = pkg/token:FuzzParse pkg/token:FuzzClaimPath pkg/token:FuzzClaimMap component/focus:FuzzParse component/focus:FuzzAnswer \
	component/stream:FuzzReceive component:FuzzStream component:FuzzCopied \
	auth:FuzzCanonicalName auth:FuzzParseRoom auth/keys:FuzzJWKS auth/store:FuzzDamaged config:FuzzLoad config:FuzzDotenv config:FuzzMeet config/prosody:FuzzRead
FUZZTIME ?= 30s
# How many faults befall usher, and how many sites are there side by side. FAULTS_SEED=n has the same happen again.
FAULTS ?= 300
SITES ?= 8
# Most of the time the tests wait for a Prosody, so that more of them than there are cores run at once.
TESTFLAGS = -race -shuffle=on -count=1 -parallel 4 -timeout 20m

.PHONY: help build test check demo bench faults fuzz arch deps go clean
help: ## show this list
	@grep -hE '^[a-z]+:.*##' Makefile | sed 's/:.*##/	/' | expand -t 10

build: go ## build bin/usher
	CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=auto -o bin/usher ./cmd/usher

test: deps ## run all tests, against Prosody 0.12 and against 13
	PROSODYTEST_REQUIRED=1 PROSODYTEST_PROSODY=$(PROSODY_12) GO="$(GO)" .ci/test bin/test-12.log $(TESTFLAGS) ./...
	PROSODYTEST_REQUIRED=1 PROSODYTEST_PROSODY=$(PROSODY_13) GO="$(GO)" .ci/test bin/test-13.log $(TESTFLAGS) $(INTEGRATION)

check: arch ## look at the code: gofmt, vet, staticcheck, govulncheck, import graph
	@fmt=$$("$$($(GO) env GOROOT)/bin/gofmt" -l $$(git ls-files '*.go')) && test -z "$$fmt" || { echo 'not gofmt-ed:'; echo "$$fmt"; exit 1; }
	$(GO) vet ./...
	$(GO) tool staticcheck ./...
	.ci/vulncheck

demo: deps build ## see usher at work on a private Prosody
	bin/usher demo

bench: deps ## measure decisions and codec, and against a real Prosody joins beside a floor without a gate, and the relay
	$(GO) test -run '^$$' -bench . ./auth ./auth/store ./muc ./component/focus ./config ./config/prosody
	$(GO) test -run '^$$' -bench Joins -benchtime 24x ./component
	$(GO) test -run '^$$' -bench 'Arrival|Relay|Held|Guard|WaitingGuest|Flood' -benchtime 1x ./component

faults: deps ## have FAULTS (300) faults befall usher beside real Prosodys, and see from outside that nobody wrong gets in
	FAULTS=$(FAULTS) FAULTS_PROSODY=$(PROSODY_12):$(PROSODY_13) GO="$(GO)" \
		.ci/test bin/faults.log -count=1 -timeout 1h -parallel $(SITES) -run TestFaults -v ./cmd/usher/faults

fuzz: go ## fuzz each target for FUZZTIME (30s)
	@for t in $(FUZZ); do echo "fuzz $$t"; $(GO) test -run '^$$' -fuzz "^$${t#*:}$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 10x ./$${t%:*} || exit 1; done

arch: go ## compare the import graph with testdata/imports.golden (make arch UPDATE=1 writes it)
	@mkdir -p bin
	@$(GO) list -f '{{.ImportPath}}:{{range .Imports}} {{.}}{{end}}' ./... | awk '{ line = $$1; for (i = 2; i <= NF; i++) if ($$i ~ /^github.com\/xmpp-usher\/usher/) line = line " " $$i; print line }' | sed 's#github.com/xmpp-usher/usher/##g' > $(if $(UPDATE),testdata/imports.golden,bin/imports)
	@$(if $(UPDATE),true,diff -u testdata/imports.golden bin/imports)

deps: go ## install what is missing from Debian, and say what is done
	@.ci/deps

go:
	@GO="$(GO)" .ci/go

clean: ## remove what the other verbs made
	rm -rf bin .go .prosody testdata/node/node_modules

SHELL := /bin/sh
GO ?= go
# .go/bin has the Go that .ci/go fetched, where the machine has none that is new enough. It comes before the machine's.
export PATH := $(CURDIR)/.go/bin:$(PATH)
PROSODY_12 = $(shell command -v prosody)
PROSODY_13 = $(CURDIR)/.prosody/13/usr/bin/prosody
# Of the tests that need a Prosody, those that mostly wait. One version of it is enough for them.
ONCE = ^Test(ReadmeAdopt|ReadmePortalDebian|ReadmePortalDocker|PortalBreakoutRoom|PortalUntilHostLeft)$$
# Where the tests that need a Prosody are noted, as "folder test".
USED = $(CURDIR)/bin/with-prosody
# The fuzz targets to run, as a pattern.
FUZZ ?= ^Fuzz
FUZZTIME ?= 30s
# The number of faults that "make faults" causes, of sites that run side by side, and of people who enter each second on a site with two
# ushers. FAULTS_SEED=n repeats a run, FAULTS_KINDS=pattern selects kinds.
FAULTS ?= 300
SITES ?= 8
JOINS ?= 5
# The race detector waits for a second before each process ends, unless told otherwise: that of each package, and of each usher in tests.
export GORACE = atexit_sleep_ms=20
# The tests mostly wait for Prosody, so more of them than there are cores run at once. "make check" vets the code.
TESTFLAGS = -vet=off -race -shuffle=on -count=1 -parallel 8 -timeout 20m

.PHONY: help build quick test test-deploy release check demo bench-table bench faults takeover fuzz arch deps go clean
help: ## show this list
	@grep -hE '^[a-z-]+:.*##' Makefile | sed 's/:.*##/	/' | expand -t 13

build: go ## build bin/usher
	CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=auto -o bin/usher ./cmd/usher

quick: go ## run the tests that need no server, in under a minute: without Prosody, race detector and most random cases
	PROSODYTEST_PROSODY=none REDISTEST_REDIS=none GO="$(GO)" .ci/test bin/quick.log -short ./...

test: deps ## run all tests, against Prosody 0.12, ejabberd and Redis, and those that need a Prosody again against 13
	@mkdir -p bin && rm -f $(USED)
	PROSODYTEST_USED=$(USED) PROSODYTEST_REQUIRED=1 PROSODYTEST_PROSODY=$(PROSODY_12) GO="$(GO)" .ci/test bin/test-12.log $(TESTFLAGS) ./...
	PROSODYTEST_REQUIRED=1 PROSODYTEST_PROSODY=$(PROSODY_13) PROSODYTEST_EJABBERD=none GO="$(GO)" .ci/test bin/test-13.log $(TESTFLAGS) -skip '$(ONCE)' \
		-run "^($$(sed 's/.* //' $(USED) | sort -u | paste -sd '|'))$$" $$(sed 's#^$(CURDIR)#.#; s/ .*//' $(USED) | sort -u)

test-deploy: deps ## as root: test packages, image, release and pages in chroots and a browser; installs what that takes
	@.ci/deps deploy
	PROSODYTEST_REQUIRED=1 PROSODYTEST_PROSODY=$(PROSODY_12) PROSODYTEST_EJABBERD=none GO="$(GO)" .ci/test-deploy

release: go ## make packages, archives, lists of modules and checksums of the last commit in bin/release
	$(GO) run ./config/deploy/release -o bin/release
	@ls bin/release

check: arch ## examine the code: gofmt, vet, staticcheck, govulncheck, luacheck, import graph
	@fmt=$$("$$($(GO) env GOROOT)/bin/gofmt" -l $$(git ls-files '*.go')) && test -z "$$fmt" || { echo 'not gofmt-ed:'; echo "$$fmt"; exit 1; }
	$(GO) vet ./...
	$(GO) tool staticcheck ./...
	@if command -v luacheck >/dev/null; then luacheck -q $$(git ls-files '*.lua' | grep -v '\.cfg\.lua$$'); \
		else echo 'luacheck is missing (Debian: lua-check), so that the Lua is not examined'; fi
	.ci/vulncheck

demo: deps build ## show usher at work beside a private Prosody
	bin/usher demo

bench-table: deps ## measure what usher costs, beside both Prosodys, and print the figures that have a target as a table (25 min)
	GO="$(GO)" .ci/bench-table $(PROSODY_12) $(PROSODY_13)

bench: bench-table ## the same, and measure decisions, codec, stores, the relay, a takeover, the portal, and what watching usher costs
	$(GO) test -run '^$$' -bench . ./auth ./auth/store ./component/focus ./component/audit ./component/webhook ./config ./config/prosody
	$(GO) test -run '^$$' -bench 'Grant|Guard' ./muc
	$(GO) test -run '^$$' -bench Takeover -benchtime 20x ./cmd/usher
	$(GO) test -run '^$$' -bench Portal/mint -benchtime 2000x ./cmd/usher
	$(GO) test -run '^$$' -bench Portal/login -benchtime 20x ./cmd/usher
	$(GO) test -run '^$$' -bench Portal/flood -benchtime 1x -v ./cmd/usher
	$(GO) test -run '^$$' -bench Observed -benchtime 25x ./cmd/usher
	$(GO) test -run '^$$' -bench 'Arrival|Relay|Held$$|WaitingGuest|Flood' -benchtime 1x ./component

faults: deps ## cause FAULTS (300) faults beside real Prosodys and Redis, while an observer checks that nobody gets in wrongly
	FAULTS=$(FAULTS) FAULTS_JOINS=$(JOINS) FAULTS_PROSODY=$(PROSODY_12):$(PROSODY_13) GO="$(GO)" \
		.ci/test bin/faults.log -count=1 -timeout 1h -parallel $(SITES) -run TestFaults -v ./cmd/usher/faults

takeover: ## kill -9 the active one of two ushers 20 times, one after the other, while 50 people enter each second
	FAULTS_KINDS='^active killed$$' $(MAKE) faults FAULTS=20 SITES=1 JOINS=50
	TAKEOVERS=20 PROSODYTEST_PROSODY=$(PROSODY_12) GO="$(GO)" .ci/test bin/takeovers.log -count=1 -timeout 1h -run TestTakeoverUnderLoad -v ./cmd/usher

fuzz: go ## fuzz each target (or those of FUZZ=pattern) for FUZZTIME (30s)
	@for p in $$($(GO) list ./...); do \
		targets=$$($(GO) test -list '$(FUZZ)' $$p) || { echo "$$targets"; exit 1; }; \
		for t in $$(echo "$$targets" | grep '^Fuzz'); do \
			echo "fuzz $$p $$t"; \
			$(GO) test -run '^$$' -fuzz "^$$t$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 10x $$p || exit 1; \
		done; \
	done

arch: go ## compare the import graph with testdata/imports.golden (make arch UPDATE=1 writes it)
	@mkdir -p bin
	@$(GO) list -f '{{.ImportPath}}:{{range .Imports}} {{.}}{{end}}' ./... | awk '{ line = $$1; for (i = 2; i <= NF; i++) if ($$i ~ /^github.com\/xmpp-usher\/usher/) line = line " " $$i; print line }' | sed 's#github.com/xmpp-usher/usher/##g' > $(if $(UPDATE),testdata/imports.golden,bin/imports)
	@$(if $(UPDATE),true,diff -u testdata/imports.golden bin/imports)

deps: go ## install from Debian what is missing, and say what is done
	@.ci/deps

go:
	@GO="$(GO)" .ci/go

clean: ## remove everything that the other targets made
	rm -rf bin .go .prosody testdata/node/node_modules

.PHONY: deps
deps: ## install what is missing from Debian, say what was done
	config/deploy/deps.sh

.PHONY: bench
bench: ## what decisions cost, and joins beside a real Prosody against a floor without a gate (two minutes)
	go test -run '^$$' -bench . ./auth ./muc ./component/focus
	go test -run '^$$' -bench Joins -benchtime 24x ./component

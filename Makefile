.PHONY: deps
deps: ## install what is missing from Debian, say what was done
	config/deploy/deps.sh

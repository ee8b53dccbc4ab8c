package auth

import (
	"errors"
	"strings"
	"time"
)

var errNoLook = errors.New("the room was not asked")

// Step is one rule as it was applied.
type Step struct {
	Rule     string `json:"rule"`
	Expected string `json:"expected"`
	Found    string `json:"found"`
	OK       bool   `json:"ok"`
}

// trace collects the steps of an explanation. A nil trace collects nothing, and costs nothing but the call.
type trace struct{ steps []Step }

func (t *trace) found(rule, expected, found string, ok bool) {
	if t != nil {
		t.steps = append(t.steps, Step{rule, expected, found, ok})
	}
}

func (t *trace) time(rule, expected string, claim, at time.Time, ok bool) {
	if t != nil {
		t.found(rule, expected, claim.UTC().Format(time.RFC3339)+"; now it is "+at.UTC().Format(time.RFC3339), ok)
	}
}

func (t *trace) list(rule string, expected []string, found string, ok bool) {
	if t != nil {
		t.found(rule, strings.Join(expected, " or "), found, ok)
	}
}

func (t *trace) algorithm(i *Issuer, found string, ok bool) {
	if t != nil {
		var names []string
		for _, alg := range i.Algorithms {
			names = append(names, alg.String())
		}
		t.list("algorithm", names, found, ok)
	}
}

func (t *trace) issuers(issuers []Issuer, found string, ok bool) {
	if t != nil {
		var names []string
		for _, i := range issuers {
			names = append(names, i.Accepted...)
		}
		t.list("issuer", names, found, ok)
	}
}

func describe(err error) string {
	if err == nil {
		return "as expected"
	}
	return err.Error()
}

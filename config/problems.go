package config

import (
	"slices"
	"strings"
)

// Problem is one thing that is wrong in a configuration, or doubtful, if it is in [Config.Warnings].
type Problem struct {
	// Source is where it is: "usher.yaml:14", "environment USHER_XMPP_SECRET", "prosody conf.d/meet.cfg.lua:7",
	// "docker .env:3 JWT_APP_ID", or "file app.secret (named by usher.yaml:14)".
	Source string
	// Key is the key in question, such as "rooms.services[0]". Empty for the file as a whole.
	Key string
	// Text says what is wrong and what to do. It never contains a secret.
	Text string

	at place // orders problems
}

// String returns "source: key: text".
func (p Problem) String() string {
	if p.Key == "" {
		return p.Source + ": " + p.Text
	}
	return p.Source + ": " + p.Key + ": " + p.Text
}

// Problems is the error of [Load]: everything that is wrong, in the order of the file, then of its sources, then of the
// environment.
type Problems struct {
	List []Problem
	// Warnings are the warnings about whole files, and about lines of Prosody's files: one may explain a problem.
	Warnings []Problem
	// Files are the files and folders that were read or should have been: a change in one of them may end the problems.
	Files []string
}

// Error returns all problems, then the warnings, one on each line.
func (p *Problems) Error() string {
	var lines []string
	for _, problem := range p.List {
		lines = append(lines, problem.String())
	}
	for _, warning := range p.Warnings {
		lines = append(lines, "warning: "+warning.String())
	}
	return strings.Join(lines, "\n")
}

// inOrder sorts problems by their place.
func inOrder(problems []Problem) []Problem {
	slices.SortStableFunc(problems, func(a, b Problem) int { return a.at.compare(b.at) })
	return problems
}

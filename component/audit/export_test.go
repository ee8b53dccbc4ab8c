package audit

import "github.com/xmpp-usher/usher/component"

// For the tests of package audit_test.
const (
	Queued    = queued
	LookEvery = lookEvery
)

// WithJournal returns options for the journal behind a socket.
func WithJournal(o Options, socket string) Options {
	o.To, o.journal = Journal, socket
	return o
}

// Decision, CallLine and Datagram return lines.
func Decision(r component.Report) []byte { return line(decision(r)) }
func CallLine(c Call) []byte             { return line(call(c)) }
func Datagram(r component.Report) []byte { return datagram(decision(r)) }

// Waiting returns the number of lines that wait.
func (l *Log) Waiting() int { return len(l.queue) }

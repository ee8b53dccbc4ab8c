package audit

import (
	"fmt"
	"net"
	"os"
)

// stderr writes lines to standard error.
type stderr struct{}

// write writes each line by itself: a pipe takes 4 kB as a whole (PIPE_BUF), so that lines of other programs do not get in between.
func (stderr) write(lines [][]byte) (n int, err error) {
	for n, l := range lines {
		if _, err := os.Stderr.Write(l); err != nil {
			return n, fmt.Errorf("standard error: %w", err)
		}
	}
	return len(lines), nil
}

func (stderr) tend()        {}
func (stderr) close() error { return nil }

// journalSocket is where journald listens (systemd's JOURNAL_NATIVE_PROTOCOL.md).
const journalSocket = "/run/systemd/journal/socket"

// journal sends lines to journald.
type journal struct {
	socket string
	conn   *net.UnixConn // nil after an error
}

func openJournal(socket string) (sink, error) {
	if socket == "" {
		socket = journalSocket
	}
	j := &journal{socket: socket}
	if err := j.dial(); err != nil {
		return nil, fmt.Errorf("audit: %w; is this machine without systemd? Then name a file", err)
	}
	return j, nil
}

func (j *journal) dial() (err error) {
	if j.conn, err = net.DialUnix("unixgram", nil, &net.UnixAddr{Name: j.socket, Net: "unixgram"}); err != nil {
		j.conn = nil
		return fmt.Errorf("the journal cannot be reached: %w", err)
	}
	return nil
}

func (j *journal) write(lines [][]byte) (n int, err error) {
	if j.conn == nil {
		if err := j.dial(); err != nil {
			return 0, err
		}
	}
	for n, l := range lines {
		if _, err := j.conn.Write(l); err != nil {
			_ = j.close()
			j.conn = nil // journald may have been restarted
			return n, fmt.Errorf("the journal: %w", err)
		}
	}
	return len(lines), nil
}

func (j *journal) tend() {}

func (j *journal) close() error {
	if j.conn == nil {
		return nil
	}
	return j.conn.Close()
}

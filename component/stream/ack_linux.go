package stream

import (
	"net"
	"syscall"
)

// acknowledging is a TCP connection that acknowledges at once what is read from it.
//
// Prosody leaves Nagle's algorithm on by default (network_settings.nagle): a stanza waits at the server until the one before it
// has been acknowledged. The kernel delays an acknowledgement by up to 40 ms where we send nothing back, as after a presence.
// A request that comes right after a presence would be late by as much.
type acknowledging struct {
	*net.TCPConn
	raw syscall.RawConn
}

// acknowledge makes the connection an acknowledging one, if it is a TCP connection.
func acknowledge(c net.Conn) net.Conn {
	t, ok := c.(*net.TCPConn)
	if !ok {
		return c
	}
	raw, err := t.SyscallConn()
	if err != nil {
		return c
	}
	return acknowledging{t, raw}
}

// Read implements net.Conn.
func (a acknowledging) Read(b []byte) (int, error) {
	n, err := a.TCPConn.Read(b)
	// The kernel resets the option by itself (tcp(7), TCP_QUICKACK). If it cannot be set, stanzas only come later.
	_ = a.raw.Control(func(fd uintptr) {
		_ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_QUICKACK, 1)
	})
	return n, err
}

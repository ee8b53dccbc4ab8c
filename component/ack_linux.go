package component

import (
	"net"
	"syscall"
)

// prompt is a TCP connection that acknowledges at once what is read from it.
//
// Prosody leaves Nagle's algorithm on unless told otherwise (network_settings.nagle): a stanza waits at the server until
// the one before has been acknowledged, and the kernel takes up to 40 ms for that wherever we send nothing back, as
// after a presence. A request that comes behind a presence would be late by as much.
type prompt struct {
	*net.TCPConn
	raw syscall.RawConn
}

func acknowledging(c net.Conn) net.Conn {
	t, ok := c.(*net.TCPConn)
	if !ok {
		return c
	}
	raw, err := t.SyscallConn()
	if err != nil {
		return c
	}
	return prompt{t, raw}
}

// Read implements net.Conn.
func (p prompt) Read(b []byte) (int, error) {
	n, err := p.TCPConn.Read(b)
	// The option does not last (tcp(7), TCP_QUICKACK). Without it all works as well, only later.
	_ = p.raw.Control(func(fd uintptr) {
		_ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_QUICKACK, 1)
	})
	return n, err
}

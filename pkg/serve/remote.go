package serve

import (
	"net/http"
	"net/netip"
	"strings"
)

// Remote returns the address of the client: the connection's, or, where that is one of the proxies, the last address in X-Forwarded-For
// that is none of them. All before that one was written by the client. A connection by a Unix socket has no address, and counts as one of
// a proxy if there are any. The address is not valid if nothing says it.
func Remote(r *http.Request, proxies []netip.Prefix) netip.Addr {
	at, valid := parse(r.RemoteAddr)
	if len(proxies) == 0 || valid && !within(at, proxies) {
		return at
	}
	said := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for n := len(said) - 1; n >= 0; n-- {
		next, ok := parse(strings.TrimSpace(said[n]))
		if !ok {
			return at // what a proxy writes that does not know the client either
		}
		if at = next; !within(at, proxies) {
			return at
		}
	}
	return at
}

// parse reads an address, with or without a port.
func parse(text string) (netip.Addr, bool) {
	a, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(text, "["), "]"))
	if err != nil {
		p, err := netip.ParseAddrPort(text)
		if err != nil {
			return netip.Addr{}, false
		}
		a = p.Addr()
	}
	return a.Unmap().WithZone(""), true
}

func within(a netip.Addr, all []netip.Prefix) bool {
	for _, p := range all {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// Network returns the addresses that one customer can have: an IPv4 address, or an IPv6 network of 64 bits.
func Network(a netip.Addr) netip.Prefix {
	a = a.Unmap().WithZone("")
	bits := a.BitLen()
	if a.Is6() {
		bits = 64
	}
	p, _ := a.Prefix(bits) // no prefix for no address
	return p
}

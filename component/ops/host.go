package ops

import (
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"

	"github.com/xmpp-usher/usher/pkg/serve"
)

// guarded answers requests that name this machine, and refuses all others. Otherwise a web page that somebody on this machine looks at
// could read what is here: its name is made to mean 127.0.0.1 after the page was loaded (DNS rebinding), so that the browser takes usher
// for the server of the page. The browser then still sends the page's name as Host.
//
// An IP address is no such name, and nor is one without a dot: nobody can register it, and it is what containers call each other.
// Programs that speak HTTP/1.0 may send no Host, browsers always do.
// Behind a socket of this machine's file system no browser asks.
func guarded(listen string, next http.Handler) http.Handler {
	names := ownNames(listen)
	local := strings.HasPrefix(listen, serve.UnixPrefix)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Referrer-Policy", "no-referrer")
		if !local && !mine(r.Host, names) {
			http.Error(w, "usher answers to an IP address, localhost or this machine's own name only, and this request names another host. "+
				"Behind a proxy, let the proxy send one of these as Host.", http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// ownNames returns the names of this machine, in lower case: its own, and the one by which usher is told to listen.
func ownNames(listen string) map[string]bool {
	names := map[string]bool{"localhost": true}
	if host, err := os.Hostname(); err == nil {
		names[normal(host)] = true
	}
	if host, _, err := net.SplitHostPort(listen); err == nil {
		names[normal(host)] = true
	}
	delete(names, "")
	return names
}

func normal(host string) string { return strings.ToLower(strings.TrimSuffix(host, ".")) }

// mine reports whether a Host header names this machine.
func mine(header string, names map[string]bool) bool {
	if header == "" {
		return true
	}
	host := header
	if h, _, err := net.SplitHostPort(header); err == nil {
		host = h
	}
	host = normal(host)
	if _, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
		return true
	}
	return names[host] || host != "" && !strings.Contains(host, ".")
}

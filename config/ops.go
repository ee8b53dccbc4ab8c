package config

import (
	"errors"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Ops says where usher shows what it does: metrics, health and the live page.
type Ops struct {
	// Listen is a host and port, or "unix:" and the path of a socket; empty for none. Default 127.0.0.1:8089.
	Listen string
	// Pprof adds the profiles of Go. Default false.
	Pprof bool
}

// API says who may steer usher by HTTP, and where.
type API struct {
	// Listen is a host and port; empty, the default, for none.
	Listen string
	// KeysFile is the path of the file with the keys, which need not exist. It is set even if Listen is not.
	KeysFile string
	// PublicURL is the address at which people reach usher's links, and MeetURL the one of the web page to which a link leads, both
	// without a slash at their end. Empty where there are no links.
	PublicURL, MeetURL string
	// Rate is how many calls a second each key may make, and Burst how many of them at once. Default 10 and 20.
	Rate  float64
	Burst int
	// Keys are the keys in the file, in its order. No two have the same name or hash. Empty if Listen is.
	Keys []APIKey
}

// Audit says where usher writes each decision and each call of the API.
type Audit struct {
	// To is the path of a file, or "stderr" or "journal"; empty, the default, for nowhere.
	To string
	// MaxSize is how many bytes a file may have, MaxAge how long it is kept, and Keep how many older ones are. Default 100 MiB, 30 days
	// and 10.
	MaxSize int64
	MaxAge  time.Duration
	Keep    int
}

// The values of audit.to that are no files, and the word that switches something off.
const (
	AuditStderr  = "stderr"
	AuditJournal = "journal"

	off = "off"
)

// buildOps makes the Ops.
func (l *loader) buildOps(r *raw) Ops {
	return Ops{Listen: l.buildListen("ops/listen", r.Ops.Listen, true, false), Pprof: r.Ops.Pprof}
}

// buildAPI makes the API.
func (l *loader) buildAPI(r *raw, o Ops) API {
	a := API{
		Listen:   l.buildListen("api/listen", r.API.Listen, false, false),
		KeysFile: l.resolve(r.API.KeysFile),
		Rate:     r.API.Rate,
		Burst:    r.API.Burst,
	}
	if a.Rate <= 0 || a.Rate > 100_000 {
		l.fault("api/rate", "is %s, but must be more than 0 and at most 100000", strconv.FormatFloat(a.Rate, 'g', -1, 64))
	}
	if a.Burst < 1 || a.Burst > 100_000 {
		l.fault("api/burst", "is %d, but must be between 1 and 100000", a.Burst)
	}
	a.PublicURL, a.MeetURL = l.buildPage("api/public_url", r.API.PublicURL), l.buildPage("api/meet_url", r.API.MeetURL)
	for _, pair := range [][2]string{{"api/public_url", "api/meet_url"}, {"api/meet_url", "api/public_url"}} {
		if l.given(pair[0]) && !l.given(pair[1]) {
			l.fault(pair[0], "has no effect without %s, because a link needs both: write it, or take this out", typed(pair[1]))
		}
	}
	if a.Listen == "" {
		l.idleOff("api/listen", "api/keys_file", "api/rate", "api/burst", "api/public_url", "api/meet_url")
		return a
	}
	if a.Listen == o.Listen {
		l.fault("api/listen", "is ops.listen, too: the API needs an address of its own")
	}
	a.Keys = l.readAPIKeys(r.API.KeysFile)
	return a
}

// idleOff records keys that have no effect because the operator has not said where. If the operator has switched it off by the word off,
// they may stay for later.
func (l *loader) idleOff(switched string, paths ...string) {
	for _, path := range paths {
		if l.given(path) && !l.given(switched) && !l.garbled {
			l.fault(path, "has no effect without %s: write it, or take this out", typed(switched))
		}
	}
}

// buildListen returns where a path says that usher listens: at a port, or perhaps at a socket; "" for nowhere. encrypted reports that it
// speaks TLS there.
func (l *loader) buildListen(at, listen string, sockets, encrypted bool) string {
	if listen == off {
		return ""
	}
	like := "127.0.0.1:8088"
	if sockets {
		like = "127.0.0.1:8089, unix:/run/usher/" + parent(at) + ".sock"
	}
	if file, ok := strings.CutPrefix(listen, "unix:"); ok && sockets {
		if file == "" {
			l.fault(at, "names no file: write it like unix:/run/usher/%s.sock", parent(at))
			return ""
		}
		return "unix:" + l.checkSocket(at, file)
	}
	host, port, err := net.SplitHostPort(listen)
	if n, portErr := strconv.ParseUint(port, 10, 16); err != nil || portErr != nil || n == 0 {
		l.fault(at, "%q is no place to listen: write it like %s, or off", listen, like)
		return ""
	}
	if !loopback(host) && !encrypted {
		l.warn(at, "%s can be reached from other machines, and has no TLS: let it listen on 127.0.0.1, and put a proxy in front", listen)
	}
	return listen
}

// checkSocket returns the path of a socket that a path of the configuration names, and records what is wrong with it.
func (l *loader) checkSocket(at, name string) string {
	file := l.resolve(name)
	folder, err := os.Stat(filepath.Dir(file))
	is, missing := os.Stat(file)
	switch {
	case len(file) > longestSocket:
		l.fault(at, "%s has %d bytes, and the name of a socket can have %d: choose a shorter one", file, len(file), longestSocket)
	case errors.Is(err, fs.ErrNotExist):
		l.fault(at, "the folder %s does not exist: make it, so that usher can write there", filepath.Dir(file))
	case err != nil:
		l.fault(at, "the folder %s cannot be looked at: %s", filepath.Dir(file), why(err))
	case !folder.IsDir():
		l.fault(at, "%s is no folder", filepath.Dir(file))
	case missing == nil && is.Mode().Type() != fs.ModeSocket:
		l.fault(at, "%s is there, and is no socket: name another file, or remove it", file)
	}
	return file
}

// buildPage returns the address of a web page, without a slash at its end.
func (l *loader) buildPage(at, address string) string {
	if !l.given(at) {
		return ""
	}
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		l.fault(at, "is no address of a page: write it like https://meet.example.com")
		return ""
	}
	if u.Scheme == "http" && !loopback(u.Hostname()) {
		l.warn(at, "http:// is not encrypted: somebody who listens on the way can enter with the links and tokens of others. Write https://")
	}
	return strings.TrimRight(address, "/")
}

// buildAudit makes the Audit.
func (l *loader) buildAudit(r *raw) Audit {
	a := Audit{MaxSize: int64(r.Audit.MaxSize), MaxAge: r.Audit.MaxAge, Keep: r.Audit.Keep}
	if r.Audit.MaxSize < mib || r.Audit.MaxSize > 1024*gib {
		l.fault("audit/max_size", "is %s, but must be between 1MiB and 1024GiB", r.Audit.MaxSize)
	}
	if a.MaxAge < time.Hour || a.MaxAge > 87600*time.Hour {
		l.fault("audit/max_age", "is %s, but must be between 1h and 87600h", PlainDuration(a.MaxAge))
	}
	if a.Keep < 1 || a.Keep > 1000 {
		l.fault("audit/keep", "is %d, but must be between 1 and 1000", a.Keep)
	}
	ofFiles := []string{"audit/max_size", "audit/max_age", "audit/keep"}
	switch to := r.Audit.To; to {
	case off:
		l.idleOff("audit/to", ofFiles...)
	case AuditStderr, AuditJournal:
		a.To = to
		l.idle("has no effect with audit.to: "+to+", which is no file: take it out", ofFiles...)
	case "":
		l.fault("audit/to", "is empty: name a file, or write stderr, journal or off")
	default:
		a.To = l.resolve(to)
		l.checkFile("audit/to", a.To, "what people do")
	}
	return a
}

package config

import (
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"mellium.im/xmpp/jid"
)

// build makes the Config of what was decoded, and records everything that is wrong with it.
func (l *loader) build(r *raw) *Config {
	c := &Config{Log: Log{
		Level:  oneOf(l, "log/level", r.Log.Level, "debug", "info", "warn", "error"),
		Format: oneOf(l, "log/format", r.Log.Format, "console", "json"),
	}}
	c.XMPP = l.buildXMPP(r)
	c.Rooms = l.buildRooms(r)
	c.Lobby = l.buildLobby(r)
	c.Jicofo = l.buildJicofo(r)
	c.Sessions = r.Sessions
	c.Store = l.buildStore(r)
	c.AdminSocket = l.buildSocket(r)
	c.Ops = l.buildOps(r)
	c.API = l.buildAPI(r, c.Ops)
	if c.AdminSocket != "" && c.Ops.Listen == "unix:"+c.AdminSocket {
		l.fault("ops/listen", "is admin.socket, too: it needs a socket of its own")
	}
	c.Audit = l.buildAudit(r)
	c.Webhooks = l.buildWebhooks(r.Webhooks)
	for _, domain := range l.vhosts {
		name := domain.String()
		c.VHosts = append(c.VHosts, l.buildVHost(join("vhosts", name), domain, r.VHosts[name]))
	}
	for _, name := range l.misnamed { // what stands below a bad name can be wrong, too
		l.buildVHost(join("vhosts", name), jid.JID{}, r.VHosts[name])
	}
	if len(c.VHosts) == 0 && !l.badVHost {
		l.missing("vhosts", "name at least one virtual host with people who may ask for a room")
	}
	c.Portal = l.buildPortal(r.Portal, c)
	c.Login = l.buildLogin(r, c)
	l.checkPortalLogin(c)
	l.compareDomains(c)
	l.compareFocus(c)
	l.findHosts(c)
	l.findPortalVHost(c)
	l.checkAfterKick(c)
	l.checkFirstIsHost(c)
	l.compareAuthentication(c)
	l.checkReaders()
	return c
}

// buildProsody returns the files of prosody.files. They are read, and can fail, only when somebody needs what they say.
func (l *loader) buildProsody(variables map[string]string) []string {
	files, _ := l.source("prosody/files", variables)
	for i, name := range l.viper.GetStringSlice("prosody/files") {
		if name == "" {
			l.fault(join("prosody/files", strconv.Itoa(i)), "is empty: name Prosody's main file, such as /etc/prosody/prosody.cfg.lua")
		}
	}
	return files
}

// checkReaders warns of files with a secret that everybody on this machine can read.
func (l *loader) checkReaders() {
	for file, at := range l.secretIn {
		if worldReadable(file) {
			l.warnings = append(l.warnings, Problem{Source: at.source, at: at, Text: readableSecret})
		}
	}
}

// readableSecret is the warning about such a file.
const readableSecret = "contains a secret, and everybody on this machine can read it: chmod 640 it"

func (l *loader) buildXMPP(r *raw) XMPP {
	x := XMPP{Server: r.XMPP.Server}
	l.checkServer("xmpp/server", x.Server)
	if l.given("xmpp/domain") {
		x.Domain = l.domain("xmpp/domain", r.XMPP.Domain)
	} else {
		l.missing("xmpp/domain", "usher's own address, as in the server's Component line")
	}
	least := minSecret
	if r.XMPP.AllowShortSecret {
		least = 0
	}
	l.contradict("xmpp/secret", "xmpp/secret_file")
	if l.given("xmpp/secret") {
		x.Secret = l.secret("xmpp/secret", r.XMPP.Secret, least)
	}
	if l.given("xmpp/secret_file") {
		x.Secret = l.secretFile("xmpp/secret_file", r.XMPP.SecretFile, least)
	}
	if !l.given("xmpp/secret") && !l.given("xmpp/secret_file") {
		l.missing("xmpp/secret_file", "a file with the component's secret, as the server has it (or secret: itself)")
	}
	return x
}

// checkServer records what is wrong with the address of the server.
func (l *loader) checkServer(at, server string) {
	host, port, err := net.SplitHostPort(server)
	if n, portErr := strconv.ParseUint(port, 10, 16); err != nil || portErr != nil || n == 0 || host == "" {
		l.fault(at, "%q is no host:port: write it like 127.0.0.1:5347", server)
		return
	}
	if !nearby(host) {
		l.warn(at, "%s may be beyond this machine and its private network, but the connection is not encrypted: "+
			"somebody who listens there can take it over", host)
	}
}

// nearby reports whether a host is on this machine or on a private network, as far as its name or address tells.
func nearby(host string) bool {
	if address, err := netip.ParseAddr(host); err == nil {
		return address.IsLoopback() || address.IsPrivate() || address.IsLinkLocalUnicast()
	}
	// Names without dots are those of container networks. docker-jitsi-meet has the domain meet.jitsi.
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	private := []string{"localhost", "local", "internal", "home.arpa", "meet.jitsi"}
	return !strings.Contains(host, ".") ||
		slices.ContainsFunc(private, func(domain string) bool { return strings.HasSuffix(host, "."+domain) })
}

// loopback reports whether a host is this machine, as far as its name or address tells.
func loopback(host string) bool {
	address, err := netip.ParseAddr(host)
	return err == nil && address.IsLoopback() || strings.EqualFold(host, "localhost")
}

func (l *loader) buildJicofo(r *raw) Jicofo {
	j := Jicofo{ForwardToken: r.Jicofo.ForwardToken, EnforceRoles: r.Jicofo.EnforceRoles}
	if !l.given("jicofo/jid") {
		return j
	}
	focus, err := jid.Parse(r.Jicofo.JID)
	if err != nil || focus.Localpart() == "" {
		l.fault("jicofo/jid", "%q is no JID: write it like focus@auth.meet.example.com", r.Jicofo.JID)
		return j
	}
	if focus.Resourcepart() != "" {
		l.warn("jicofo/jid", "leave out the resource (/%s): it changes, and usher learns it from Jicofo's presence", focus.Resourcepart())
	}
	j.JID = focus.Bare()
	return j
}

package config

import (
	"encoding/base64"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Webhook is an address that hears of what happens, by the Standard Webhooks specification.
type Webhook struct {
	// Name is letters, digits, dots, dashes and underscores. Never empty.
	Name string
	// URL is https, or http; elsewhere than on this machine http is a warning.
	URL string
	// Secret signs each event: "whsec_" and 24 to 64 bytes in base64, or several of these with white space between them, each of which
	// makes a signature.
	Secret Secret
	// Events are some of [HookEvents]; empty for all.
	Events []string
	// Rooms are patterns of rooms, as of auth.MatchRoom; empty for all.
	Rooms []string
	// Timeout is how long the address may take to answer: 1 to 60 s. Default 10 s.
	Timeout time.Duration
}

// HookEvents are the events that a webhook can ask for.
var HookEvents = []string{"admitted", "refused", "waiting", "host-arrived", "host-left", "room-opened", "room-ended", "occupant-joined",
	"occupant-left", "expired", "revoked"}

// buildWebhooks makes the webhooks.
func (l *loader) buildWebhooks(r map[int]rawWebhook) (all []Webhook) {
	named := map[string]int{}
	for i := range l.count("webhooks") {
		at := join("webhooks", strconv.Itoa(i))
		hook := l.buildWebhook(at, r[i])
		if first, again := named[hook.Name]; again {
			l.fault(at+"/name", "is that of webhooks[%d], too (%s): give each a name of its own", first, l.place(fmt.Sprintf("webhooks/%d/name", first)).source)
		} else if hook.Name != "" {
			named[hook.Name] = i
		}
		all = append(all, hook)
	}
	return all
}

// buildWebhook makes the webhook that stands at a path.
func (l *loader) buildWebhook(at string, r rawWebhook) Webhook {
	hook := Webhook{Name: r.Name, Events: r.Events, Rooms: r.Rooms, Timeout: r.Timeout}
	l.checkName(at+"/name", r.Name, "the name of this webhook, such as back-end")
	hook.URL = l.buildHookURL(at+"/url", r.URL)
	hook.Secret = l.buildHookSecret(at, r)
	for i, event := range hook.Events {
		here := join(at+"/events", strconv.Itoa(i))
		if oneOf(l, here, event, HookEvents...); slices.Contains(hook.Events[:i], event) {
			l.fault(here, "names %s again: once is enough", event)
		}
	}
	if events := at + "/events"; l.given(events) && len(hook.Events) == 0 {
		l.fault(events, "is empty, so this webhook would hear of nothing: take it out for all events")
	}
	for i, pattern := range hook.Rooms {
		l.checkRoomPattern(join(at+"/rooms", strconv.Itoa(i)), pattern)
	}
	if rooms := at + "/rooms"; l.given(rooms) && len(hook.Rooms) == 0 {
		l.fault(rooms, "is empty, so this webhook would hear of no room: take it out for all rooms")
	}
	if hook.Timeout < time.Second || hook.Timeout > time.Minute {
		l.fault(at+"/timeout", "is %s, but must be between 1s and 60s", PlainDuration(hook.Timeout))
	}
	return hook
}

// checkRoomPattern records a pattern of rooms, perhaps with a tenant in brackets before it, that matches no room.
func (l *loader) checkRoomPattern(at, pattern string) {
	if rest, ok := strings.CutPrefix(pattern, "["); ok {
		tenant, name, closed := strings.Cut(rest, "]")
		if !closed || tenant == "" {
			l.fault(at, "%q is no pattern: write [tenant]name, [*]name for any tenant, or the name alone", pattern)
			return
		}
		l.checkPattern(at, tenant)
		pattern = name
	}
	l.checkPattern(at, pattern)
}

// checkName records what is wrong with a name at a path; missing says what is missing there without one.
func (l *loader) checkName(at, name, missing string) {
	switch {
	case !l.given(at):
		l.missing(at, missing)
	case name == "" || strings.Trim(name, plainNames) != "" || len(name) > longestName:
		l.fault(at, "%q is no name: write letters, digits, dots, dashes and underscores, %d at most", name, longestName)
	}
}

// longestName is how many characters the name of a webhook or of an API key can have.
const longestName = 64

// buildHookURL returns the address of a webhook.
func (l *loader) buildHookURL(at, address string) string {
	if !l.given(at) {
		l.missing(at, "the address that hears of events, such as https://portal.example.com/hooks/usher")
		return ""
	}
	// The parser's own error quotes the address, which may have a password in it.
	u, err := url.Parse(address)
	switch {
	case err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.Hostname() == "":
		l.fault(at, "is no address of a web server: write it like https://portal.example.com/hooks/usher")
		return ""
	case u.User != nil:
		l.fault(at, "has a user or password in it, which is not sent: the receiver knows usher by the signature; take it out")
	case u.Fragment != "":
		l.fault(at, "has a # in it: what follows is never sent; take it out")
	case u.Scheme == "http" && !loopback(u.Hostname()):
		l.warn(at, "http:// is not encrypted, and %s is not this machine: somebody who listens on the way reads who is in which room. Write https://",
			u.Hostname())
	}
	return address
}

// withoutPath returns the address of a webhook for people to read: what stands behind the host is often a secret.
func withoutPath(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return masked
	}
	shown := u.Scheme + "://" + u.Host
	if strings.TrimPrefix(u.Path, "/") != "" || u.RawQuery != "" {
		shown += "/" + masked
	}
	return shown
}

// buildHookSecret returns the secret of a webhook.
func (l *loader) buildHookSecret(at string, r rawWebhook) (s Secret) {
	given, file := at+"/secret", at+"/secret_file"
	l.contradict(given, file)
	switch {
	case l.given(given):
		s = l.secret(given, r.Secret, 0)
		l.checkHookSecret(given, s)
	case l.given(file):
		s = l.secretFile(file, r.SecretFile, 0)
		l.checkHookSecret(file, s)
	default:
		l.missing(file, "a file with the secret that signs its events (or secret: itself); "+howToMakeHookSecret)
	}
	return s
}

// howToMakeHookSecret is the advice about refused secrets of webhooks.
const howToMakeHookSecret = `make one with: echo "whsec_$(openssl rand -base64 32)"`

// checkHookSecret records what is wrong with the secrets of a webhook (Standard Webhooks, "Signature scheme": 24 to 64 bytes, base64,
// with the prefix whsec_). There can be several, with white space between them, while the receiver changes its own. The words contain
// nothing of them.
func (l *loader) checkHookSecret(at string, s Secret) {
	if l.faulty[at] {
		return
	}
	for _, secret := range strings.Fields(s.Reveal()) {
		encoded, ok := strings.CutPrefix(secret, hookSecretPrefix)
		key, err := base64.StdEncoding.Strict().DecodeString(encoded)
		switch {
		case !ok:
			l.fault(at, "is no secret of a webhook, which begins with %s: %s", hookSecretPrefix, howToMakeHookSecret)
		case err != nil:
			l.fault(at, "is not base64 after %s: %s", hookSecretPrefix, howToMakeHookSecret)
		case len(key) < 24 || len(key) > 64:
			l.fault(at, "has %d bytes in base64 after %s, and must have 24 to 64: %s", len(key), hookSecretPrefix, howToMakeHookSecret)
		}
	}
}

const hookSecretPrefix = "whsec_"

package auth

import (
	"encoding/json"
	"maps"

	"github.com/xmpp-usher/usher/pkg/token"
)

// This file is about what somebody may do inside beside talking: record, stream, dial out. Jitsi's plugins refuse that in Prosody, by
// a table of features in the client's session (resources/prosody-plugins/util.lib.lua, is_feature_allowed):
//
//   - With a table, only what is true in it is allowed, and to hosts nothing more. An absent feature is refused, but for
//     live-translation-subscribe, which only false refuses (mod_audio_translation_component).
//   - Without a table the role decides: a moderator may record and stream (mod_filter_iq_jibri), an owner may dial out and share files
//     (mod_filter_iq_rayo, mod_filesharing_component). Somebody who becomes a moderator gets the table of all features then
//     (mod_jitsi_permissions).
//   - Where the room restricts chat or polls, only a table allows them (mod_filter_messages, mod_polls_component).
//   - A host who makes somebody an owner passes on their own table (mod_jitsi_permissions).
//
// So where a rule takes a feature away everybody gets a table: without one, a later moderator could do everything.

// FeatureRule says who has a feature, as far as the token lets them. A rule takes features away and gives none.
type FeatureRule string

const (
	FeatureOfToken FeatureRule = "token"  // the token decides alone, as without a rule
	FeatureOwners  FeatureRule = "owners" // those who enter as a host
	FeatureNever   FeatureRule = "never"  // nobody
)

// moderated are the features of a moderator without a table: those that mod_jitsi_permissions gives (jitsi_default_permissions), and
// the one of mod_filesharing_component.
var moderated = []string{
	"create-polls", "file-upload", "flip", "live-translation", "live-translation-subscribe", "livestreaming", "outbound-call", "recording",
	"send-groupchat", "transcription",
}

// narrow returns what the rule leaves of a table; nil is none. host says that the person enters as a host.
func (r RoomRule) narrow(table map[string]bool, host bool) map[string]bool {
	narrowed := maps.Clone(table)
	for feature, rule := range r.Features {
		if rule == FeatureOfToken || rule == FeatureOwners && host && table != nil {
			continue
		}
		if narrowed == nil {
			narrowed = withoutTable(host)
		}
		if rule == FeatureOwners && host {
			narrowed[feature] = true // as Jitsi lets a moderator without a table
		} else {
			narrowed[feature] = false
		}
	}
	return narrowed
}

// withoutTable returns the table that allows what Jitsi allows without one.
func withoutTable(host bool) map[string]bool {
	table := make(map[string]bool, len(moderated)+1)
	if host {
		for _, feature := range moderated {
			table[feature] = true
		}
	}
	return table
}

// said takes in what the claims say for Jitsi's plugins.
func (d *Decision) said(c *token.Claims) {
	d.Features, d.Group = readableNames(c.Features), readable(c.Group)
	d.User = token.User{
		ID: readable(c.User.ID), Name: readable(c.User.Name), Email: readable(c.User.Email), Avatar: readable(c.User.Avatar),
		HiddenFromRecorder: c.User.HiddenFromRecorder,
	}
}

// unsaid forgets what a token or session has said for Jitsi's plugins.
func (d *Decision) unsaid() { d.Features, d.User, d.Group = nil, token.User{}, "" }

// maxSaid caps a text for Jitsi's plugins in bytes: they send the user to everybody in the room (mod_presence_identity).
const maxSaid = 1024

// readable returns the text, or nothing if it is too long or has a character that XML lacks (XML 1.0 §2.2): Prosody would send that to
// everybody in the room, and their connections would break.
func readable(text string) string {
	if len(text) > maxSaid {
		return ""
	}
	for _, r := range text {
		if r < 0x20 && r != '\t' && r != '\n' && r != '\r' || r == 0xFFFE || r == 0xFFFF {
			return ""
		}
	}
	return text
}

// readableNames returns the features that have readable names. A table stays a table: what is left out is refused.
func readableNames(features map[string]bool) map[string]bool {
	odd := func(name string, _ bool) bool { return readable(name) == "" }
	for name := range features {
		if odd(name, false) {
			features = maps.Clone(features)
			maps.DeleteFunc(features, odd)
			break
		}
	}
	return features
}

// written returns a table as a session keeps it, which compares by ==: as JSON, with the names in order; nothing for none.
func written(features map[string]bool) string {
	if features == nil {
		return ""
	}
	b, _ := json.Marshal(features) // which cannot fail
	return string(b)
}

// features returns what the token of the session said. What cannot be read allows nothing.
func (s *Session) features() map[string]bool {
	if s.Features == "" {
		return nil
	}
	var table map[string]bool
	if err := json.Unmarshal([]byte(s.Features), &table); err != nil || table == nil {
		return map[string]bool{}
	}
	return table
}

package config

import (
	"maps"
	"slices"
	"strconv"
)

// Feature says who has a feature of Jitsi inside, as far as the token lets them.
type Feature string

// Who has it.
const (
	FeatureToken  Feature = "token"  // the token decides alone
	FeatureOwners Feature = "owners" // those who enter as a host
	FeatureNever  Feature = "never"  // nobody
)

// knownFeatures are those that Jitsi's plugins and clients read: resources/prosody-plugins (mod_jitsi_permissions and others),
// jitsi-meet's react/features/base/jwt/constants.ts, and 8x8's documentation of JaaS.
var knownFeatures = []string{
	"create-polls", "file-upload", "flip", "inbound-call", "list-visitors", "live-translation", "live-translation-subscribe",
	"livestreaming", "name-readonly", "outbound-call", "recording", "send-groupchat", "sip-inbound-call", "sip-outbound-call",
	"transcription",
}

// buildFeatures makes the table of features that stands at a path of a rule.
func (l *loader) buildFeatures(at string, table map[string]string) map[string]Feature {
	if len(table) == 0 {
		l.fault(at, "is empty: name a feature, such as recording: owners, or take it out")
	}
	features := make(map[string]Feature, len(table))
	for _, name := range slices.Sorted(maps.Keys(table)) {
		here := entryOf(at, name)
		if name == "" {
			here = at // which has a name
		}
		l.checkFeature(here, name)
		features[name] = oneOf(l, here, Feature(table[name]), FeatureOwners, FeatureNever, FeatureToken)
	}
	return features
}

// checkFeature records what is wrong with the name of a feature. Plugins of others may know names that Jitsi does not, so only one that
// looks misspelled is warned of.
func (l *loader) checkFeature(at, name string) {
	switch meant := Closest(canonical(name), knownFeatures); {
	case name == "":
		l.fault(at, "is empty: write a feature, such as recording, or take it out")
	case slices.Contains(knownFeatures, name):
	case meant != "":
		l.warn(at, "is no feature of Jitsi; did you mean %s?", meant)
	}
}

// checkFeatures records what is wrong with a list of features.
func (l *loader) checkFeatures(at string, names []string) {
	for n, name := range names {
		l.checkFeature(join(at, strconv.Itoa(n)), name)
	}
}

package component

import (
	"mellium.im/xmpp/jid"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/muc"
)

// forPlugins returns what Jitsi's plugins shall read in the session of somebody who is let in: what the decision says, and nothing else.
// What another token has put there before goes away, also if this one says nothing. The user has no affiliation and no moderator: those
// are for usher to give, and mod_token_affiliation would give them as well.
func forPlugins(session jid.JID, d auth.Decision) *muc.Context {
	c := &muc.Context{Session: session, Features: d.Features, Group: d.Group}
	hidden := ""
	if d.User.HiddenFromRecorder {
		hidden = "true" // jitsi-meet, Jibri leaves these people out of recordings
	}
	for _, said := range [...][2]string{
		{"id", d.User.ID}, {"name", d.User.Name}, {"email", d.User.Email}, {"avatar", d.User.Avatar}, {"hidden-from-recorder", hidden},
	} {
		if said[1] == "" {
			continue
		}
		if c.User == nil {
			c.User = make(map[string]string, 4)
		}
		c.User[said[0]] = said[1]
	}
	return c
}

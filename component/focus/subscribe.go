package focus

import (
	"fmt"

	"mellium.im/xmpp/jid"
)

// HowToSubscribe tells an operator what to do so that the server shows Jicofo's presence to us. Jicofo refuses every request for
// it (Smack's Roster is set to reject_all), so its roster must already contain us. Prosody holds that roster in memory while it
// runs, and overwrites what prosodyctl has written to disk; the shell of Prosody 13 changes both.
func HowToSubscribe(domain, jicofo jid.JID) string {
	return fmt.Sprintf("stop Jicofo and Prosody, then: prosodyctl mod_roster_command subscribe %s %s (while they run it has no effect), and start both; "+
		"or while Prosody 13 runs: prosodyctl shell roster subscribe_both %s %s", domain, jicofo.Bare(), jicofo.Bare(), domain)
}

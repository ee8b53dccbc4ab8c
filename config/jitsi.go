package config

import (
	"errors"
	"fmt"
	"strings"
)

// loginURL is the tokenAuthUrl by which the web page leads to the portal. jitsi-meet replaces {room} and {state}; from the state the portal
// knows what to give back (features/authentication/functions.web.ts, getTokenAuthUrl). The state comes first, because the room stands there as
// it is, and could bring a state of its own. The challenge of PKCE, {code_challenge}, is of no use: the portal hands over a token, and no code.
func (p Portal) loginURL() string { return p.PublicURL + "/login?state={state}&room={room}" }

// logoutURL is the tokenLogoutUrl of the portal.
func (p Portal) logoutURL() string { return p.PublicURL + "/logout" }

// leadsHere reports whether a tokenAuthUrl leads to the portal, with the room.
func (p Portal) leadsHere(address string) bool {
	query, here := strings.CutPrefix(address, p.PublicURL+"/login?")
	return here && (strings.Contains(query, "state={state}") || strings.Contains(query, "room={room}"))
}

// howToLead says how the web page comes to lead to the portal.
const howToLead = `"usher config jitsi" prints what config.js must say`

// checkPortalLogin warns of sources by which the web page does not lead to the portal.
func (l *loader) checkPortalLogin(c *Config) {
	if c.Portal.Listen == "" || c.Portal.PublicURL == "" {
		return
	}
	for _, login := range l.tokenAuthURL {
		switch {
		case !login.known:
		case !login.set:
			l.warnAt(login.at, "has no tokenAuthUrl, so the web page does not lead to the portal: "+howToLead)
		case !c.Portal.leadsHere(login.text):
			l.warnAt(login.at, fmt.Sprintf("the web page sends people to %s to log in, and not to the portal (%s): %s", login.text, c.Portal.PublicURL, howToLead))
		}
	}
	if c.Login != LoginURL && l.given("login") {
		l.warn("login", "%s contradicts the portal, to which the web page leads: write url, or take it out", c.Login)
	}
}

// portalFindings returns what of config.js does not go with the portal.
func (m Meet) portalFindings(p Portal) (all []Finding) {
	find := func(level FindingLevel, v MeetValue, key, want, text string) {
		source := v.Source
		if source == "" {
			source = "meet " + shown(m.File)
		}
		all = append(all, Finding{level, source, text, fmt.Sprintf("config.%s = %s;", key, want)})
	}
	switch v := m.TokenAuthURL; {
	case v.Text == "":
		find(Warning, v, "tokenAuthUrl", quoteJS(p.loginURL()), "there is no tokenAuthUrl, so the web page does not lead to the portal")
	case !p.leadsHere(v.Text):
		find(Warning, v, "tokenAuthUrl", quoteJS(p.loginURL()), "tokenAuthUrl leads to "+v.Text+", and not to the portal")
	}
	if v := m.TokenLogoutURL; v.Text != p.logoutURL() {
		find(Hint, v, "tokenLogoutUrl", quoteJS(p.logoutURL()), "tokenLogoutUrl is not that of the portal, so logging out of the page does not end the portal's session")
	}
	if v := m.AutoRedirect; v.Text != "true" {
		find(Hint, v, "tokenAuthUrlAutoRedirect", "true", "tokenAuthUrlAutoRedirect is not true, so that people who are logged in must click again for each room")
	}
	return all
}

// quoteJS writes an address of the portal, which has no quote in it, as a text of JavaScript.
func quoteJS(text string) string { return "'" + text + "'" }

// JitsiLines returns what the web page's config.js must say so that it leads to the portal: JavaScript for the end of the file, with
// docker-jitsi-meet's variables in its comments. The error says that there is no portal.
func (c *Config) JitsiLines() (string, error) {
	p := c.Portal
	if p.Listen == "" {
		return "", errors.New("there is no portal to which the web page could lead: portal.listen, public_url and meet_urls switch it on")
	}
	return fmt.Sprintf(`// What jitsi-meet needs of the portal, for the end of config.js. On Debian that is /etc/jitsi/meet/DOMAIN-config.js.
config.tokenAuthUrl = %s;
config.tokenAuthUrlAutoRedirect = true;
config.tokenLogoutUrl = %s;

// docker-jitsi-meet: this line in .env, and the last two above in ${CONFIG}/web/custom-config.js. It has no variable TOKEN_LOGOUT_URL.
// %s=%s
`, quoteJS(p.loginURL()), quoteJS(p.logoutURL()), tokenAuthURLVariable, p.loginURL()), nil
}

package config

// Login is the login that the web page offers to a person who needs a token and has none.
type Login string

// The logins. Empty means that nothing is known, which counts as a login by password.
const (
	LoginNone     Login = "none"     // there is none: waiting would not help
	LoginPassword Login = "password" // the page asks for the password of an account
	LoginURL      Login = "url"      // the page opens its tokenAuthUrl
)

// buildLogin returns the login of the configuration, or the one that follows from its other keys.
func (l *loader) buildLogin(r *raw, c *Config) Login {
	if l.given("login") {
		return oneOf(l, "login", Login(r.Login), LoginNone, LoginPassword, LoginURL)
	}
	login, at := l.findLogin(c.VHosts)
	if c.Portal.Listen != "" {
		login, at = LoginURL, l.place(portalListen)
	}
	if login != "" {
		l.places["login"] = at
		l.viper.Set("login", string(login))
	}
	return login
}

// findLogin returns which login there is, and which place says so. With a tokenAuthUrl, jitsi-meet asks for no password
// (features/authentication/middleware.ts, _handleLogin). An authdomain in config.js is no login by itself: it says where the
// page would log in, and the accounts are those of a trusted virtual host.
func (l *loader) findLogin(vhosts []VHost) (Login, place) {
	var without place // a source that could have a tokenAuthUrl, and has none
	for _, p := range l.tokenAuthURL {
		if p.set {
			return LoginURL, p.at
		}
		if p.known && without.source == "" {
			without = p.at
		}
	}
	for _, v := range vhosts {
		if v.Kind == KindTrusted {
			return LoginPassword, l.place(join("vhosts", v.Domain.String()) + "/kind")
		}
	}
	for _, p := range l.tokenAuthURL {
		if !p.known {
			return "", place{}
		}
	}
	if without.source != "" {
		return LoginNone, without
	}
	return "", place{}
}

// tokenAuthURL says what one source knows of the web page's tokenAuthUrl.
type tokenAuthURL struct {
	set   bool
	known bool // whether it is certain that it is set, or not
	at    place
	text  string // the address, if it is set
}

package config

// Login says by what a person who needs a token, and has none, can get in all the same: the web page's login.
type Login string

// The logins. Empty is one of which nothing is known, which counts as one by password.
const (
	LoginNone     Login = "none"     // there is none: waiting would be of no use
	LoginPassword Login = "password" // the page asks for the password of an account
	LoginURL      Login = "url"      // the page opens its tokenAuthUrl
)

// buildLogin returns the login that was written down, or else the one that follows from the rest.
func (l *loader) buildLogin(r *raw, c *Config) Login {
	if l.given("login") {
		return oneOf(l, "login", Login(r.Login), LoginNone, LoginPassword, LoginURL)
	}
	login, at := l.findLogin(c.VHosts)
	if login != "" {
		l.places["login"] = at
		l.viper.Set("login", string(login))
	}
	return login
}

// findLogin returns which login there is, and where that can be seen. With a tokenAuthUrl, jitsi-meet asks for no password
// (features/authentication/middleware.ts, _handleLogin). An authdomain in config.js is no login by itself: it says where the
// page would log in, and the accounts are those of a trusted virtual host.
func (l *loader) findLogin(vhosts []VHost) (Login, place) {
	var without place // a source that would have a tokenAuthUrl
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

// tokenAuthURL is what one source says of the web page's tokenAuthUrl.
type tokenAuthURL struct {
	set   bool
	known bool // whether it is certain that it is set, or not
	at    place
}

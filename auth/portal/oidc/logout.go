package oidc

import (
	"context"
	"errors"
	"net/url"
	"strings"
	"time"

	"github.com/xmpp-usher/usher/pkg/strictjson"
)

const (
	// maxHint caps the ID token in the address of a logout, in bytes: servers refuse long addresses. Without it the provider asks the
	// person.
	maxHint = 4 << 10
	// maxLogoutAge is how old a logout token may be, whatever its exp says. Providers send it at once; the specification recommends 2
	// minutes (Back-Channel Logout 1.0 §2.4).
	maxLogoutAge = 5 * time.Minute
	// logoutEvent is the member of the claim events that makes a token a logout token.
	logoutEvent = "http://schemas.openid.net/event/backchannel-logout"
)

func (p *provider) logoutURL(ctx context.Context, idToken, back string) (string, bool) {
	d, err := p.discover(ctx)
	if err != nil || d.endSession == "" {
		return "", false
	}
	u, err := url.Parse(d.endSession)
	if err != nil {
		return "", false
	}
	query := u.Query()
	query.Set("client_id", p.ClientID)
	if idToken != "" && len(idToken) <= maxHint {
		query.Set("id_token_hint", idToken)
	}
	if back != "" {
		query.Set("post_logout_redirect_uri", back)
	}
	u.RawQuery = query.Encode()
	return u.String(), true
}

func (p *provider) backChannel(ctx context.Context, logoutToken string) (Out, error) {
	d, err := p.discover(ctx)
	if err != nil {
		return Out{}, err
	}
	token, err := p.verify(ctx, d, logoutToken, p.ClientID)
	if err != nil {
		return Out{}, err
	}
	out, err := readLogout(token.typ, token.claims, p.now(), p.Leeway)
	if err != nil {
		return Out{}, p.fail(ErrRefused, err)
	}
	out.Provider = p.Name
	return out, nil
}

// readLogout reads what only logout tokens have.
func readLogout(typ string, claims strictjson.Object, now time.Time, leeway time.Duration) (Out, error) {
	at, err := checkTimes(claims, now, leeway, maxLogoutAge) // older drafts have no exp, nor have Keycloaks of their time
	if err != nil {
		return Out{}, err
	}
	end := at.issued.Add(maxLogoutAge)
	if at.expires.Before(end) {
		end = at.expires
	}
	out := Out{Issued: at.issued, Expires: end.Add(leeway)}
	_, hasNonce := claims.Get("nonce")
	switch {
	case !logoutType(typ):
		return Out{}, errors.New("the token is of another kind (typ)")
	case !now.Before(out.Expires):
		return Out{}, errors.New("the logout token is too old")
	case !isLogout(claims):
		return Out{}, errors.New("the token is no logout token (events)")
	case hasNonce:
		return Out{}, errors.New("the token has a nonce: an ID token is no logout token")
	}
	for name, field := range map[string]*string{"sub": &out.Subject, "sid": &out.SID, "jti": &out.JTI} {
		if value, present := claims.Get(name); present {
			text, isText := value.(string)
			if !isText || text == "" || len(text) > maxSubject {
				return Out{}, errors.New("the logout token has no usable " + name)
			}
			*field = text
		}
	}
	switch {
	case out.JTI == "":
		return Out{}, errors.New("the logout token has no jti")
	case out.Subject == "" && out.SID == "":
		return Out{}, errors.New("the logout token says neither who nor which session (sub, sid)")
	}
	return out, nil
}

// logoutType reports whether the header's typ may be that of a logout token (Back-Channel Logout 1.0 §2.4). Older providers send JWT or
// nothing.
func logoutType(typ string) bool {
	switch strings.TrimPrefix(strings.ToLower(typ), "application/") {
	case "", "jwt", "logout+jwt":
		return true
	}
	return false
}

// isLogout reports whether the claim events says that this is a logout: its member is an object, which may be empty.
func isLogout(claims strictjson.Object) bool {
	event, present := claims.Child("events").Get(logoutEvent)
	_, isObject := event.(strictjson.Object)
	return present && isObject
}

package oidc

import (
	"time"

	"go.uber.org/zap"

	"github.com/xmpp-usher/usher/auth/portal/account"
	"github.com/xmpp-usher/usher/pkg/strictjson"
)

// PersonOf maps claims: those of the ID token, and then those of other sources.
func PersonOf(config Provider, claims ...string) (account.Person, error) {
	var who person
	for _, text := range claims {
		object, err := strictjson.Parse(text)
		if err != nil {
			return account.Person{}, err
		}
		who = append(who, object)
	}
	return newProvider(config, Options{Log: zap.NewNop()}).person(who)
}

// ReadLogout reads the claims of a logout token.
func ReadLogout(typ, claims string, now time.Time, leeway time.Duration) (Out, error) {
	object, err := strictjson.Parse(claims)
	if err != nil {
		return Out{}, err
	}
	return readLogout(typ, object, now, leeway)
}

// CheckTimes checks the times of a token.
func CheckTimes(claims string, now time.Time, leeway time.Duration) error {
	object, err := strictjson.Parse(claims)
	if err == nil {
		_, err = checkTimes(object, now, leeway, 0)
	}
	return err
}

// CheckDocument reads a discovery document.
func CheckDocument(config Provider, document string) error {
	object, err := strictjson.Parse(document)
	if err != nil {
		return err
	}
	issuer, err := address(config.Issuer)
	if err == nil {
		_, err = newProvider(config, Options{Log: zap.NewNop()}).read(object, issuer)
	}
	return err
}

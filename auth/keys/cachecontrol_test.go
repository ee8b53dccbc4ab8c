package keys_test

import (
	"testing"
	"time"

	"github.com/xmpp-usher/usher/auth/keys"
)

// How long a Cache-Control field lets usher keep an answer (RFC 9111 §5.2).
func TestMaxAge(t *testing.T) {
	const silent, never, day = -1, 0, 86400
	for control, want := range map[string]int{
		"":                                     silent,
		" \t, ,":                               silent,
		"public, must-revalidate":              silent,
		"private":                              silent,
		"s-maxage=600":                         silent,
		"immutable, stale-if-error=60":         silent,
		"x-max-age=600":                        silent,
		`ext="max-age=600"`:                    silent,
		`ext="a\",max-age=600"`:                silent,
		"max-age=600":                          600,
		"MAX-AGE=600":                          600,
		"max-age=000600":                       600,
		`max-age="600"`:                        600,
		", ,max-age=600 , ,":                   600,
		"max-age=600,public":                   600,
		"public\t,\tmax-age=600":               600,
		"s-maxage=60, max-age=600":             600,
		`private="Set-Cookie, x", max-age=600`: 600,
		"max-age=600, max-age=60":              600,
		"max-age=60, max-age=600":              60,
		"max-age=0":                            never,
		"max-age=31536000":                     day,
		"max-age=9223372036854775808":          day,
		"max-age=18446744073709551615":         day,
		"max-age=18446744073709551616":         never,
		"max-age":                              never,
		"max-age=":                             never,
		`max-age=""`:                           never,
		"max-age=-1":                           never,
		"max-age=+1":                           never,
		"max-age=1.5":                          never,
		"max-age=1e9":                          never,
		"max-age=600 60":                       never,
		"max-age = 600":                        never,
		`max-age="600`:                         never,
		`max-age="600"x`:                       never,
		"max-age=600, max-age=x":               never,
		"no-store":                             never,
		"no-cache":                             never,
		`no-cache="Set-Cookie"`:                never,
		"max-age=600, No-Store":                never,
		"no-store, max-age=600":                never,
		"max-age=600, =":                       never,
		"max-age=600; public":                  never,
		"max-age=600, \x00":                    never,
		"ü, max-age=600":                       never,
	} {
		lifetime, said := keys.MaxAge(control)
		if said != (want != silent) || said && lifetime != time.Duration(want)*time.Second {
			t.Errorf("%q: %s, %t", control, lifetime, said)
		}
	}
}

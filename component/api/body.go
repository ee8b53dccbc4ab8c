package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"

	"github.com/xmpp-usher/usher/pkg/strictjson"
)

// textBody begins what is said of a body as a whole.
const textBody = "the body "

var (
	errUnreadable = errors.New(textBody + "must be one JSON object, with each name once, and with texts, numbers and true or false as the documentation says")
	errEmpty      = errors.New("is empty: leave it out, or say what it is")
)

// unmarshal reads a body. It takes no name twice, also not in another case, no null and no empty text: otherwise a mistake, such as a
// variable of a script that was not set, could do more than was meant. huma refuses names that the operation does not know.
func unmarshal(body []byte, v any) error {
	object, err := strictjson.ParseFolded(string(body))
	if err != nil {
		return errUnreadable
	}
	if name := unset(object); name != "" {
		return fmt.Errorf("%s %w", harmless(name), errEmpty)
	}
	if err := json.Unmarshal(body, v); err != nil {
		return errUnreadable // which may quote the body otherwise
	}
	return nil
}

// unset returns the name of a member with null or an empty text, wherever it is. A reason may be empty.
func unset(o strictjson.Object) string {
	for _, m := range o {
		switch value := m.Value.(type) {
		case nil:
			return m.Name
		case string:
			if value == "" && m.Name != "reason" {
				return m.Name
			}
		case strictjson.Object:
			if name := unset(value); name != "" {
				return name
			}
		}
	}
	return ""
}

// LooksLikeToken reports whether a text has something like a compact token in it (RFC 7515 §7.1), as the link of an invitation does, or
// is such a link.
func LooksLikeToken(text string) bool { return compact.MatchString(text) || link.MatchString(text) }

var (
	compact = regexp.MustCompile(`(^|[^A-Za-z0-9_-])eyJ[A-Za-z0-9_-]*\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*`)
	link    = regexp.MustCompile(`(?i)[?#&]jwt=`) // jitsi-meet, react/features/base/jwt/functions.ts, parseJWTFromURLParams
)

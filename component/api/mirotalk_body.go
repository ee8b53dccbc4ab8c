package api

import (
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/xmpp-usher/usher/pkg/mirotalk"
	"github.com/xmpp-usher/usher/pkg/strictjson"
)

// miroBody is what a call of MiroTalk's says. Scripts leave values out, and write false or true for texts, texts for true, and names that
// mean nothing to the call.
type miroBody struct {
	object strictjson.Object
	path   string // the room in the path
}

// readMiro reads what a call says. A missing body says nothing.
func readMiro(r *http.Request) (miroBody, error) {
	b := miroBody{path: r.PathValue("room")}
	text, err := io.ReadAll(r.Body)
	var long *http.MaxBytesError
	switch {
	case errors.As(err, &long):
		return b, &miroError{http.StatusRequestEntityTooLarge, errTooLong.Error()}
	case err == nil && len(text) > 0:
		b.object, err = strictjson.ParseFolded(string(text))
	}
	if err != nil {
		return b, &miroError{http.StatusBadRequest, errUnreadable.Error()}
	}
	return b, nil
}

// text returns a text or a number; empty for false, null and nothing.
func (b miroBody) text(name string) string {
	switch value, _ := b.object.Get(name); value := value.(type) {
	case string:
		return value
	case strictjson.Number:
		return string(value)
	case bool:
		if value {
			return "true"
		}
	}
	return ""
}

// flag reports whether a value is one that MiroTalk takes for true.
func (b miroBody) flag(name string) bool { return mirotalk.Yes(b.text(name)) }

// child returns an object. has is false if there is none.
func (b miroBody) child(name string) (child miroBody, has bool) {
	value, _ := b.object.Get(name)
	child.object, has = value.(strictjson.Object)
	return child, has
}

// loginRequest returns the name, the password, and what is asked of the token: presenter for all that the account may be, and expire. It
// lasts for none of these times longer, of those that are not 0.
func (b miroBody) loginRequest(most ...time.Duration) (LoginRequest, error) {
	asked := LoginRequest{Username: b.text("username"), Password: b.text("password"), Affiliation: "member"}
	if asked.Username == "" || asked.Password == "" {
		return asked, &miroError{http.StatusBadRequest, miroNoPassword}
	}
	if b.flag("presenter") {
		asked.Affiliation = "owner"
	}
	var err error
	asked.TTL, err = b.lasting("expire")
	for _, longest := range most {
		if longest > 0 && (asked.TTL == 0 || asked.TTL > longest) {
			asked.TTL = longest
		}
	}
	return asked, err
}

// lasting returns how long a token is to be valid, 0 if nothing is said of it. A number has seconds (npm's jsonwebtoken, expiresIn).
func (b miroBody) lasting(name string) (time.Duration, error) {
	value, _ := b.object.Get(name)
	text := b.text(name)
	if text == "" {
		return 0, nil
	}
	if _, isNumber := value.(strictjson.Number); isNumber {
		text += "s"
	}
	d, ok := mirotalk.Lasting(text)
	if !ok {
		return 0, &miroError{http.StatusBadRequest, name + ": say how long, such as 1h, 30m, or a number of seconds"}
	}
	return d, nil
}

// media returns what a call says of the microphone, the camera, and how the person is shown. What is missing is off, as in MiroTalk.
func (b miroBody) media() url.Values {
	q := url.Values{"name": {b.text("name")}}
	for _, name := range []string{"audio", "video", "screen", "hide"} {
		q.Set(name, strconv.FormatBool(b.flag(name)))
	}
	return q
}

package ejabberdtest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"slices"
	"strings"

	"github.com/xmpp-usher/usher/pkg/prosodytest"
)

// client keeps no idle connections: their goroutines would outlive the test.
var client = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}

// Observe returns an observer of the rooms of an ejabberd. It asks by ejabberd's HTTP API, because ejabberd lists occupants for
// moderators inside only.
func Observe(s *prosodytest.Server) *prosodytest.Observer {
	return prosodytest.NewObserver(func(ctx context.Context, room string) (prosodytest.RoomView, error) {
		// The API has a request for each list. Two views that are alike have seen the same moment. A room that ends meanwhile is an
		// internal error.
		var last prosodytest.RoomView
		for seen := false; ; seen = true {
			v, err := view(ctx, s.URL, room)
			switch {
			case errors.Is(err, errInternal):
				continue
			case err != nil || seen && reflect.DeepEqual(v, last):
				return v, err
			}
			last = v
		}
	})
}

// errInternal is ejabberd's answer when a room ends while it is asked.
var errInternal = errors.New("internal error")

func view(ctx context.Context, url, room string) (prosodytest.RoomView, error) {
	v := prosodytest.RoomView{Exists: true, Affiliations: make(map[string]string)}
	var occupants []struct{ JID, Nick, Role string }
	var affiliations []struct{ Username, Domain, Affiliation string }
	var options map[string]string
	for _, q := range []struct {
		command string
		into    any
	}{{"get_room_occupants", &occupants}, {"get_room_affiliations", &affiliations}, {"get_room_options", &options}} {
		exists, err := ask(ctx, url+"/api/"+q.command, room, q.into)
		if err != nil || !exists {
			return prosodytest.RoomView{}, err
		}
	}
	for _, a := range affiliations {
		v.Affiliations[strings.TrimPrefix(a.Username+"@"+a.Domain, "@")] = a.Affiliation
	}
	for _, o := range occupants {
		bare, _, _ := strings.Cut(o.JID, "/")
		affiliation := v.Affiliations[bare]
		if affiliation == "" {
			affiliation = "none"
		}
		v.Occupants = append(v.Occupants, prosodytest.Occupant{Nick: o.Nick, JID: o.JID, Role: o.Role, Affiliation: affiliation})
	}
	slices.SortFunc(v.Occupants, func(a, b prosodytest.Occupant) int { return strings.Compare(a.Nick, b.Nick) })
	v.MembersOnly = options["members_only"] == "true"
	return v, nil
}

// ask calls a command of mod_muc_admin, and reports whether the room exists.
func ask(ctx context.Context, url, room string, into any) (exists bool, err error) {
	name, service, _ := strings.Cut(room, "@")
	body, err := json.Marshal(map[string]string{"name": name, "service": service})
	if err != nil {
		return false, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return false, err
	}
	answer, err := client.Do(req)
	if err != nil {
		return false, err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	switch {
	case err != nil:
		return false, err
	case answer.StatusCode == http.StatusOK:
		return true, json.Unmarshal(text, into)
	case strings.Contains(string(text), "room_not_found") || strings.Contains(string(text), "does not exist") || strings.Contains(string(text), "not found"):
		return false, nil
	}
	err = fmt.Errorf("asking %s: %s: %s", url, answer.Status, text)
	if strings.Contains(string(text), "internal_error") {
		err = fmt.Errorf("%w: %w", errInternal, err)
	}
	return false, err
}

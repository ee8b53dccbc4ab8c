package store_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/auth/store"
	"github.com/xmpp-usher/usher/auth/store/storetest"
)

func TestSessions(t *testing.T) {
	clock := storetest.NewClock()
	s := store.Sessions{Store: store.Memory(store.Options{Now: clock.Now})}
	began := standup(clock)
	id, err := add(t, s, began)
	if err != nil {
		t.Fatal(err)
	}
	other, err := add(t, s, began)
	if err != nil || other == id || len(id) < 26 {
		t.Fatalf("the ids are %q and %q, %v", id, other, err)
	}
	if got, err := s.Session(t.Context(), id); err != nil || got != began {
		t.Errorf("Session = %+v, %v; want %+v", got, err, began)
	}
	sum := sha256.Sum256([]byte(id))
	for _, wrong := range []string{
		"", id[1:], id + " ", strings.ToLower(id), "\x00", strings.Repeat("x", 1<<20), hex.EncodeToString(sum[:]),
	} {
		wantNoSession(t, s, wrong)
	}

	if err := s.End(t.Context(), id); err != nil {
		t.Errorf("End: %v", err)
	}
	wantNoSession(t, s, id)
	for _, gone := range []string{id, "", "nobody's"} {
		if err := s.End(t.Context(), gone); err != nil {
			t.Errorf("End(%q): %v", gone, err)
		}
	}
	if _, err := s.Session(t.Context(), other); err != nil {
		t.Errorf("the other session ended, too: %v", err)
	}
	clock.Forward(time.Hour)
	wantNoSession(t, s, other)
}

func TestSessionWithoutEnd(t *testing.T) {
	clock := storetest.NewClock()
	s := store.Sessions{Store: store.Memory(store.Options{Now: clock.Now})}
	began := standup(clock)
	began.Expires = time.Time{}
	if id, err := add(t, s, began); err == nil {
		t.Errorf("Add of a session without an end = %q", id)
	}
	began.Expires = clock.Now()
	id, err := add(t, s, began)
	if err != nil {
		t.Errorf("Add: %v", err)
	}
	wantNoSession(t, s, id)
}

// TestSessionWhole: no field of a session is lost. The test fills all fields by reflection, so that a new one cannot be forgotten.
func TestSessionWhole(t *testing.T) {
	clock := storetest.NewClock()
	s := store.Sessions{Store: store.Memory(store.Options{Now: clock.Now})}
	rapid.Check(t, func(rt *rapid.T) {
		var began auth.Session
		var fill func(v reflect.Value)
		fill = func(v reflect.Value) {
			for _, field := range v.Fields() {
				switch {
				case field.Type() == reflect.TypeFor[auth.Affiliation]():
					field.SetString(string(rapid.SampledFrom([]auth.Affiliation{auth.None, auth.Member, auth.Admin, auth.Owner}).Draw(rt, "")))
				case field.Type() == reflect.TypeFor[time.Time]():
					field.Set(reflect.ValueOf(clock.Now().Add(time.Duration(1 + rapid.Int64Range(0, 1<<60).Draw(rt, "")))))
				case field.Kind() == reflect.String:
					field.SetString(rapid.StringN(1, 30, 100).Draw(rt, ""))
				case field.CanInt():
					field.SetInt(rapid.Int64().Draw(rt, ""))
				case field.Kind() == reflect.Bool:
					field.SetBool(rapid.Bool().Draw(rt, ""))
				default:
					fill(field)
				}
			}
		}
		fill(reflect.ValueOf(&began).Elem())
		id, err := add(t, s, began)
		if err != nil {
			rt.Fatal(err)
		}
		if got, err := s.Session(t.Context(), id); err != nil || got != began {
			rt.Fatalf("Session = %+v, %v; want %+v", got, err, began)
		}
	})
}

// TestSessionAsItIs: a session that would not read back the same is not written.
func TestSessionAsItIs(t *testing.T) {
	clock := storetest.NewClock()
	s := store.Sessions{Store: store.Memory(store.Options{Now: clock.Now})}
	for what, change := range map[string]func(*auth.Session){
		"not UTF-8":              func(s *auth.Session) { s.Room = "standup\xff" },
		"an unknown affiliation": func(s *auth.Session) { s.Affiliation = "outcast" },
		"too large":              func(s *auth.Session) { s.Identity = strings.Repeat("x", store.MaxValue) },
	} {
		began := standup(clock)
		change(&began)
		_, err := add(t, s, began)
		if err == nil {
			t.Errorf("%s: no error", what)
		} else if strings.Contains(err.Error(), "standup") || strings.Contains(err.Error(), "xxx") {
			t.Errorf("%s: the error has what is in the session: %v", what, err)
		}
	}
}

// TestSessionUnreadable: a stored session that is damaged, or has a field that this version does not know, stands for nothing.
func TestSessionUnreadable(t *testing.T) {
	_, kept, s, id := oneSession(t)
	var record store.Record
	for r, err := range kept.All(t.Context(), store.KindSession) {
		if err != nil {
			t.Fatal(err)
		}
		record = r
	}
	good := string(record.Value)
	write := func(value string) {
		t.Helper()
		r := record
		r.Value = []byte(value)
		if err := kept.Put(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	for what, value := range map[string]string{
		"nothing":                "",
		"null":                   "null",
		"an empty one":           "{}",
		"half":                   good[:len(good)/2],
		"something more":         good + "{}",
		"white space":            good + "\n",
		"a restriction to come":  strings.Replace(good, "{", `{"only_before_lunch":true,`, 1),
		"a field less":           strings.Replace(good, `"Room":"standup",`, "", 1),
		"a field twice":          strings.Replace(good, "{", `{"Room":"standup",`, 1),
		"another spelling":       strings.Replace(good, `"Room"`, `"ROOM"`, 1),
		"an unknown affiliation": strings.Replace(good, `"owner"`, `"outcast"`, 1),
		"a number":               strings.Replace(good, `"standup"`, "7", 1),
		"not UTF-8":              strings.Replace(good, "standup", "standup\xff", 1),
	} {
		t.Run(what, func(t *testing.T) {
			if value == good {
				t.Fatal("it is not changed")
			}
			write(value)
			wantNoSession(t, s, id)
			if _, err := s.Session(t.Context(), id); err.Error() == auth.ErrNoSession.Error() || strings.Contains(err.Error(), "standup") {
				t.Errorf("the detail for the log is %q", err)
			}
		})
	}
	// An earlier version wrote no features.
	before := strings.Replace(good, `"Features":"{\"recording\":true}",`, "", 1)
	if before == good {
		t.Fatalf("no features in %s", good)
	}
	write(before)
	if got, err := s.Session(t.Context(), id); err != nil || got.Features != "" {
		t.Errorf("Session = %+v, %v", got, err)
	}
	write(good)
	if _, err := s.Session(t.Context(), id); err != nil {
		t.Errorf("Session: %v", err)
	}
}

// TestSessionsUnavailable: a store that does not answer is not the same as no session.
func TestSessionsUnavailable(t *testing.T) {
	clock, kept, s, id := oneSession(t)
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Session(over, id); !errors.Is(err, context.Canceled) || errors.Is(err, auth.ErrNoSession) {
		t.Errorf("Session with a context that is done: %v", err)
	}
	kept.Close()
	if _, err := s.Session(t.Context(), id); !errors.Is(err, store.ErrClosed) || errors.Is(err, auth.ErrNoSession) {
		t.Errorf("Session of a closed store: %v", err)
	}
	if id, err := add(t, s, standup(clock)); !errors.Is(err, store.ErrClosed) || id != "" {
		t.Errorf("Add to a closed store: %q, %v", id, err)
	}
	if err := s.End(t.Context(), id); !errors.Is(err, store.ErrClosed) {
		t.Errorf("End in a closed store: %v", err)
	}
}

// TestSessionIDNotInFile: the file has no session id, so that a reader of the file or of a copy cannot enter with one.
func TestSessionIDNotInFile(t *testing.T) {
	path, clock := store.NewPath(t), storetest.NewClock()
	kept := open(t, path, store.Options{Now: clock.Now})
	s := store.Sessions{Store: kept}
	id, err := add(t, s, standup(clock))
	if err != nil {
		t.Fatal(err)
	}
	if err := kept.Close(); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(path)
	if err != nil || !bytes.Contains(content, []byte("juliet@example.com")) || bytes.Contains(content, []byte(id)) {
		t.Errorf("the session is not in the file, or its id is: %v", err)
	}
	s.Store = open(t, path, store.Options{Now: clock.Now})
	if got, err := s.Session(t.Context(), id); err != nil || got != standup(clock) {
		t.Errorf("Session of the next process = %+v, %v", got, err)
	}
}

package config

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// FuzzLoad checks that no YAML document makes Load panic, and that what it accepts is complete. The seeds are the files
// of testdata/config, and the example.
func FuzzLoad(f *testing.F) {
	files, err := filepath.Glob("../testdata/config/*.yaml")
	if err != nil || len(files) == 0 {
		f.Fatal("no seeds", err)
	}
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(content)
	}
	f.Add(Example)
	f.Add([]byte(allKeys))
	f.Fuzz(func(t *testing.T, content []byte) {
		l := newLoader("../testdata/config/fuzz.yaml") // its folder has the secret files
		l.readFile(content)
		if l.garbled && len(l.problems) == 0 {
			t.Fatal("not read, but no problem")
		}
		c, err := l.result(l.finish(nil, nil))
		if err != nil {
			problems, _ := errors.AsType[*Problems](err)
			for _, p := range problems.List {
				if p.Source == "" || p.Text == "" {
					t.Fatalf("a problem without source or text: %+v", p)
				}
			}
			return
		}
		if c.XMPP.Domain.String() == "" || c.XMPP.Secret.Reveal() == "" || len(c.Rooms.Services) == 0 || len(c.VHosts) == 0 {
			t.Fatalf("accepted, but incomplete: %+v", c)
		}
		for _, h := range c.Webhooks {
			if h.Name == "" || h.URL == "" || !strings.HasPrefix(strings.TrimSpace(h.Secret.Reveal()), hookSecretPrefix) || h.Timeout == 0 {
				t.Fatalf("an incomplete webhook: %+v", h)
			}
		}
		checkPortal(t, c)
		for _, v := range c.VHosts {
			if v.Kind == KindToken && !c.TakesTokens(v) {
				t.Fatalf("%s has no issuer", v.Domain)
			}
			for _, i := range v.Issuers {
				if i.AppID == "" || len(i.Algorithms) == 0 || len(i.AcceptedIssuers) == 0 || len(i.AcceptedAudiences) == 0 ||
					(len(i.AppSecrets) == 0) == (len(i.PublicKeyFiles) == 0 &&
						i.JWKSFile+i.JWKSURL+i.ASAPKeyServer+i.CacheKeysURL == "") {
					t.Fatalf("an incomplete issuer of %s: %+v", v.Domain, i)
				}
			}
		}
	})
}

// checkPortal fails the test if a portal that was accepted is not complete.
func checkPortal(t *testing.T, c *Config) {
	t.Helper()
	p := c.Portal
	if p.Listen == "" {
		return
	}
	if p.PublicURL == "" || len(p.MeetURLs) == 0 || slices.Contains(p.MeetURLs, "") || p.VHost.String() == "" || p.TokenTTL == 0 || p.Session == 0 ||
		(p.Sign == SignSecret) == (p.Issuer == "") || (p.CertFile == "") != (p.KeyFile == "") || p.UsersURL != "" && p.UsersSecret.Reveal() == "" {
		t.Fatalf("an incomplete portal: %+v", p)
	}
	for _, u := range p.Users {
		if userKey(u.Name) == "" || u.Hash == "" || len(u.Rooms) == 0 || u.Affiliation == "" {
			t.Fatalf("an incomplete account: %+v", u)
		}
	}
	for _, o := range p.Providers {
		if o.Name == "" || o.Title == "" || o.Issuer == "" || o.ClientID == "" || len(o.Rules) == 0 || o.IDClaim == "" || o.NameClaim == "" || o.DisplayClaim == "" {
			t.Fatalf("an incomplete provider: %+v", o)
		}
		for _, r := range o.Rules {
			if r.Claim == "" || r.Value == "" || len(r.Rooms) == 0 || r.Affiliation == "" {
				t.Fatalf("an incomplete rule: %+v", r)
			}
		}
	}
}

// FuzzAPIKeys checks that no file with keys of the API makes its reader panic, that what it accepts is complete, and that adding and removing
// a key leaves the others as they are.
func FuzzAPIKeys(f *testing.F) {
	const hash = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
	for _, seed := range []string{
		"", "# ours\n", "keys:\n", "keys: # ours\n", "keys: []", "{}", "--- {keys: }", "keys:\n  - {name: a, sha256: " + hash + ", scopes: [tokens]} # until spring\n# end\n",
		"keys:\n- name: a\n  sha256: " + hash + "\n  scopes: [links, explain]\n  rooms: [\"[acme]*\"]\n  max_ttl: 1h\n  expires: 2027-06-30T00:00:00Z\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		keys, err := ParseAPIKeys("keys.yaml", content)
		if err != nil {
			if err.Error() == "" {
				t.Fatal("no problem")
			}
			return
		}
		for _, k := range keys {
			if k.Name == "" || k.Hash == [32]byte{} && !strings.Contains(string(content), strings.Repeat("0", 64)) || len(k.Scopes) == 0 {
				t.Fatalf("an incomplete key: %+v", k)
			}
			if k.Name == "new-key" || k.Hash == [32]byte{1} {
				return
			}
		}
		more, err := AddAPIKey(content, APIKey{Name: "new-key", Hash: [32]byte{1}, Scopes: []string{"explain"}})
		if errors.Is(err, errByHand) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		all, err := ParseAPIKeys("keys.yaml", more)
		if err != nil || len(all) != len(keys)+1 || all[len(keys)].Name != "new-key" || !reflect.DeepEqual(all[:len(keys)], append([]APIKey{}, keys...)) {
			t.Fatalf("%q has become %q: %v", content, more, err)
		}
		less, err := RemoveAPIKey(more, "new-key")
		if err != nil {
			t.Fatal(err)
		}
		if all, err = ParseAPIKeys("keys.yaml", less); err != nil || len(all) != len(keys) {
			t.Fatalf("%q has become %q: %v", more, less, err)
		}
	})
}

// FuzzUsers checks that no file with accounts makes its reader panic, that what it accepts is complete, and that adding, changing and
// removing an account leaves the others as they are.
func FuzzUsers(f *testing.F) {
	const hash = "$2b$12$R9h/cIPz0gi.URNNX3kh2OPST9/PgBkqquzi.Ss7KIUgO2t0jWMUW"
	for _, seed := range []string{
		"", "# ours\n", "users:\n", "users: # ours\n", "users: []", "{}", "users:\n  - {name: a, password_hash: \"" + hash + "\", rooms: [\"*\"]} # until spring\n# end\n",
		"users:\n- name: a\n  password_hash: " + hash + "\n  rooms: [\"[acme]*\", b]\n  affiliation: member\n  groups: [g]\n  disabled: true\n  email: a@b\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		users, err := ParseUsers("users.yaml", content)
		if err != nil {
			if err.Error() == "" {
				t.Fatal("no problem")
			}
			return
		}
		names := map[string]bool{}
		for _, u := range users {
			if userKey(u.Name) == "" || u.Hash == "" || len(u.Rooms) == 0 || u.Affiliation == "" || names[userKey(u.Name)] {
				t.Fatalf("an incomplete account: %+v", u)
			}
			names[userKey(u.Name)] = true
		}
		checkUserEditing(t, content, users)
	})
}

func checkUserEditing(t *testing.T, content []byte, users []User) {
	t.Helper()
	const hash = "$2b$10$N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy"
	name := "new-user"
	for i, u := range users {
		if userKey(u.Name) == userKey(name) {
			return
		}
		if i == 0 && len(u.Name)%2 == 1 { // change one at times
			name = u.Name
		}
	}
	more, err := PutUser(content, User{Name: name, Hash: hash, Rooms: []string{"*"}})
	if errors.Is(err, errByHand) {
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	all, err := ParseUsers("users.yaml", more)
	if err != nil {
		t.Fatalf("%q has become %q: %v", content, more, err)
	}
	kept, want := 0, len(users)
	for _, u := range users {
		if u.Name == name {
			want--
			continue
		}
		for _, o := range all {
			if o.Name == u.Name && o.Hash == u.Hash && o.Display == u.Display && o.Disabled == u.Disabled && strings.Join(o.Rooms, ",") == strings.Join(u.Rooms, ",") {
				kept++
			}
		}
	}
	if kept != want || len(all) != want+1 {
		t.Fatalf("%q has become %q: %v", content, more, all)
	}
	less, err := RemoveUser(more, name)
	if err != nil {
		t.Fatal(err)
	}
	if all, err = ParseUsers("users.yaml", less); err != nil || len(all) != want {
		t.Fatalf("%q has become %q: %v", more, less, err)
	}
}

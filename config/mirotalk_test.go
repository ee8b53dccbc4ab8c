package config_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/xmpp-usher/usher/config"
	"github.com/xmpp-usher/usher/pkg/passhash"
)

// mirotalkBase is a usher.yaml with a portal, to which MiroTalk's variables add.
const mirotalkBase = "xmpp: {domain: focus.example.com, secret: " + secretA + "}\nrooms: {services: [conference.example.com]}\n" +
	"vhosts: {example.com: {kind: token, app_id: app, app_secret: " + secretB + "}}\n" +
	"portal: {listen: 127.0.0.1:8087, public_url: https://login.example.com, meet_urls: [https://meet.example.com], trusted_proxies: [127.0.0.1]}\n"

// TestMiroTalk checks what MiroTalk's variables set, from a .env file and from the environment.
func TestMiroTalk(t *testing.T) {
	const env = "JWT_SECRET=" + secretA + "\nHOST_PROTECTED=true # hosts only\nHOST_USER_AUTH=false\nJWT_EXPIRATION=2h\n" +
		`HOST_USERS="alice:co$rrect horse:Alice:*|bob:b4ttery<staple:Bob:Room1, [odd*|carol:tr0ubador:Carol|dave:d0g:Dave:"` + "\nIP_WHITELIST_ENABLED=true\n"
	inFolder(t, "usher.yaml", mirotalkBase, "mirotalk.env", env)
	for name, load := range map[string]func() (*config.Config, error){
		"a file of the command line": func() (*config.Config, error) {
			return config.Load([]string{"usher.yaml", "mirotalk.env"}, nil)
		},
		"a file that is named": func() (*config.Config, error) {
			return config.Load([]string{"usher.yaml"}, []string{"USHER_SOURCES_MIROTALK=mirotalk.env"})
		},
		"the environment": func() (*config.Config, error) {
			var environ []string
			for line := range strings.Lines(env) {
				line, _, _ = strings.Cut(strings.TrimSpace(line), " #")
				environ = append(environ, strings.ReplaceAll(line, `"`, ""))
			}
			return config.Load([]string{"usher.yaml"}, environ)
		},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := load()
			if err != nil {
				t.Fatal(err)
			}
			if c.Rooms.WaitForHost != config.WaitGuests || !c.VHosts[0].AllowEmptyToken || c.Portal.TokenTTL != 2*time.Hour {
				t.Errorf("%+v, %v, %s", c.Rooms, c.VHosts[0].AllowEmptyToken, c.Portal.TokenTTL)
			}
			passwords := []string{"co$rrect horse", "b4ttery<staple", "tr0ubador", "d0g"}
			rooms := [][]string{{"*"}, {"room1", `\[odd\*`}, {"*"}, {"*"}}
			for i, u := range c.Portal.Users {
				h, err := passhash.Parse(u.Hash)
				if err != nil || !h.Matches(passwords[i]) || !slices.Equal(u.Rooms, rooms[i]) || u.Affiliation != config.Owner || u.Disabled {
					t.Errorf("account %s: %v, rooms %q", u, err, u.Rooms)
				}
			}
			if len(c.Portal.Users) != 4 || c.Portal.Users[1].Name != "bob" || c.Portal.Users[1].Display != "Bob" {
				t.Errorf("accounts %v", c.Portal.Users)
			}
			_, warnings := texts(t, c, nil)
			if !slices.ContainsFunc(warnings, func(w string) bool {
				return strings.Contains(w, "HOST_USERS: has passwords in it") && strings.Contains(w, "usher user add")
			}) {
				t.Errorf("warnings %q", warnings)
			}
			if !slices.ContainsFunc(c.Notes, func(n config.Problem) bool { return strings.Contains(n.Text, "IP_WHITELIST_ENABLED (the firewall") }) {
				t.Errorf("notes %v", c.Notes)
			}
			said := lines(c) + string(c.YAML()) + strings.Join(warnings, "\n")
			for _, secret := range append(passwords, "$argon2id$") {
				if strings.Contains(said, secret) {
					t.Errorf("usher says %s", secret)
				}
			}
			again, err := load()
			if err != nil || again.Portal.Users[0].Hash != c.Portal.Users[0].Hash {
				t.Error("another start makes another hash, which would end all sessions")
			}
		})
	}
	c, _ := config.Load([]string{"usher.yaml", "mirotalk.env"}, nil)
	for key, origin := range map[string]string{
		"rooms.wait_for_host": "mirotalk mirotalk.env:2 HOST_PROTECTED", "portal.token_ttl": "mirotalk mirotalk.env:4 JWT_EXPIRATION",
		"portal.users[1].rooms": "mirotalk mirotalk.env:5 HOST_USERS", "vhosts.example.com.allow_empty_token": "mirotalk mirotalk.env:2 HOST_PROTECTED",
	} {
		if s, _ := setting(c, key); s.Origin != origin {
			t.Errorf("%s is from %s, want %s", key, s.Origin, origin)
		}
	}
}

// TestMiroTalkLayers checks that usher.yaml wins over MiroTalk's variables, and they over docker-jitsi-meet's.
func TestMiroTalkLayers(t *testing.T) {
	own := strings.Replace(mirotalkBase, "meet_urls", "token_ttl: 30m, users: [{name: eve, password_hash: \""+hash+"\", rooms: [a]}], meet_urls", 1)
	inFolder(t, "usher.yaml", own, "mirotalk.env", "HOST_PROTECTED=true\nHOST_USERS=alice:correct horse\nJWT_EXPIRATION=2h\n")
	c := load(t, "usher.yaml", "mirotalk.env")
	if len(c.Portal.Users) != 1 || c.Portal.Users[0].Name != "eve" || c.Portal.TokenTTL != 30*time.Minute {
		t.Errorf("accounts %v, %s", c.Portal.Users, c.Portal.TokenTTL)
	}
	if !slices.ContainsFunc(c.Notes, func(n config.Problem) bool {
		return strings.Contains(n.String(), "HOST_USERS: does not count beside portal.users")
	}) {
		t.Errorf("notes %v", c.Notes)
	}
	docker := "XMPP_DOMAIN=meet.example.com\nENABLE_AUTH=1\nAUTH_TYPE=jwt\nJWT_APP_ID=app\nJWT_APP_SECRET=" + secretA + "\nJWT_ALLOW_EMPTY=1\n"
	portal := strings.SplitAfter(mirotalkBase, "\n")[3]
	for name, files := range map[string][]string{
		"two files": {"docker.env", docker, "mirotalk.env", "HOST_USER_AUTH=true\nHOST_USERS=alice:correct horse\nJWT_EXPIRATION=2h\n"},
		"one file":  {"docker.env", docker + "HOST_USER_AUTH=true\nHOST_USERS=alice:correct horse\nJWT_EXPIRATION=2h\n"},
	} {
		inFolder(t, append(slices.Clone(files), "usher.yaml", "xmpp: {secret: "+secretA+"}\n"+portal)...)
		named := []string{"usher.yaml"}
		for i := 0; i < len(files); i += 2 {
			named = append(named, files[i])
		}
		c := load(t, named...)
		i := slices.IndexFunc(c.VHosts, func(v config.VHost) bool { return v.Domain.String() == "meet.example.com" })
		if c.VHosts[i].AllowEmptyToken || len(c.Portal.Users) != 1 || c.Portal.VHost.String() != "meet.example.com" {
			t.Errorf("%s: %+v", name, c.Portal)
		}
		if slices.ContainsFunc(c.Notes, func(n config.Problem) bool { return strings.Contains(n.Text, "does not know these variables") }) {
			t.Errorf("%s: notes %v", name, c.Notes)
		}
	}
}

// TestMiroTalkGuests checks what becomes of guests by the two switches.
func TestMiroTalkGuests(t *testing.T) {
	guests := strings.Replace(mirotalkBase, "vhosts: {", "vhosts: {guest.example.com: {kind: guest}, ", 1)
	for name, test := range map[string]struct {
		yaml, env string
		empty     bool
		denied    int // rules that refuse guests
		warn      string
	}{
		"protected":                   {mirotalkBase, "HOST_PROTECTED=true", true, 0, ""},
		"protected, and guests":       {guests, "HOST_PROTECTED=true", false, 0, ""},
		"everybody logs in":           {mirotalkBase, "HOST_USER_AUTH=true", false, 1, ""},
		"both":                        {guests, "HOST_PROTECTED=true\nHOST_USER_AUTH=true", false, 1, ""},
		"neither":                     {mirotalkBase, "HOST_PROTECTED=false", false, 0, ""},
		"everybody logs in, by rules": {strings.Replace(mirotalkBase, "rooms: {", "rooms: {rules: [{match: a, max_occupants: 3}], ", 1), "HOST_USER_AUTH=true", false, 0, "adds no rule"},
	} {
		t.Run(name, func(t *testing.T) {
			inFolder(t, "usher.yaml", test.yaml, "mirotalk.env", test.env+"\n")
			c := load(t, "usher.yaml", "mirotalk.env")
			i := slices.IndexFunc(c.VHosts, func(v config.VHost) bool { return v.Domain.String() == "example.com" })
			denied := 0
			for _, r := range c.Rooms.Rules {
				if r.Guests == config.GuestsDeny && r.Match == "*" && r.Tenant == "*" && strings.Contains(r.Source, "HOST_USER_AUTH") {
					denied++
				}
			}
			if c.VHosts[i].AllowEmptyToken != test.empty || denied != test.denied {
				t.Errorf("without a token: %v, %d rules", c.VHosts[i].AllowEmptyToken, denied)
			}
			_, warnings := texts(t, c, nil)
			if said := strings.Contains(strings.Join(warnings, "\n"), "adds no rule"); said != (test.warn != "") {
				t.Errorf("warnings %q", warnings)
			}
		})
	}
}

// TestMiroTalkService checks that MiroTalk's user service is asked in the place of accounts.
func TestMiroTalkService(t *testing.T) {
	inFolder(t, "usher.yaml", mirotalkBase, "mirotalk.env", "HOST_PROTECTED=true\nHOST_USERS=alice:correct horse\nHOST_USERS_FROM_DB=true\nUSERS_API_SECRET="+secretA+"\n")
	p := load(t, "usher.yaml", "mirotalk.env").Portal
	if p.UsersURL != "http://localhost:9000/api/v1" || p.UsersSecret.Reveal() != secretA || len(p.Users) > 0 {
		t.Errorf("%+v", p)
	}
}

// TestMiroTalkProblems checks what usher refuses in MiroTalk's variables. It repeats no password.
func TestMiroTalkProblems(t *testing.T) {
	for name, test := range map[string]struct {
		env  string
		want []string
	}{
		"the template": {"JWT_SECRET=mirotalksfu_jwt_secret\nAPI_KEY_SECRET=mirotalksfu_default_secret\nHOST_PROTECTED=true\n" +
			`HOST_USERS="username:password:User:*|admin:admin:Admin:room1,room2|guest:guest:Guest:room1,room2"`, []string{
			"mirotalk mirotalk.env:1 JWT_SECRET: is an example that everybody knows", "mirotalk mirotalk.env:2 API_KEY_SECRET: is an example that everybody knows",
			"mirotalk mirotalk.env:4 HOST_USERS: gives username a password that everybody knows", "mirotalk mirotalk.env:4 HOST_USERS: gives admin a password that everybody knows",
			"mirotalk mirotalk.env:4 HOST_USERS: gives guest a password that everybody knows"}},
		"entries": {"HOST_USERS=alice|:pw:x|bob:a:b:c:d|eve:EVE|frank:good enough:F:a,b", []string{
			"HOST_USERS: has an entry without a name or a password, the 1st", "HOST_USERS: has an entry without a name or a password, the 2nd",
			"HOST_USERS: has more than four parts in its 3rd entry", "HOST_USERS: gives eve a password that everybody knows"}},
		"names":           {"HOST_USERS=a b:good enough|x:good enough:X:a/b", []string{`HOST_USERS: portal.users[0].name: "a b" is no name`, `HOST_USERS: portal.users[1].rooms[0]: "a/b" matches no room`}},
		"twice":           {"HOST_USERS=a:good enough|A:better than that", []string{`HOST_USERS: portal.users[1].name: "A" is that of another account, too (mirotalk mirotalk.env:1 HOST_USERS)`}},
		"switches":        {"HOST_PROTECTED=TRUE\nHOST_USER_AUTH=1", []string{"HOST_PROTECTED: is neither true nor false", "HOST_USER_AUTH: is neither true nor false"}},
		"expiration":      {"HOST_PROTECTED=true\nJWT_EXPIRATION=soon", []string{"JWT_EXPIRATION: is no duration"}},
		"no unit":         {"HOST_PROTECTED=true\nJWT_EXPIRATION=3600", []string{"JWT_EXPIRATION: portal.token_ttl: is 3.6s, but must be between 1m and 24h"}},
		"service":         {"HOST_PROTECTED=true\nHOST_USERS_FROM_DB=true\nUSERS_API_ENDPOINT=https://a.example.com/isAuth", []string{"USERS_API_ENDPOINT: does not end in /user/isAuth"}},
		"its secret":      {"HOST_PROTECTED=true\nHOST_USERS_FROM_DB=true\nUSERS_API_SECRET=mirotalkweb_default_secret", []string{"USERS_API_SECRET: portal.users_secret: is an example"}},
		"without secret":  {"HOST_PROTECTED=true\nHOST_USERS_FROM_DB=true\nUSERS_API_ENDPOINT=https://a.example.com/v1/user/isAuth", []string{"portal.users_secret_file: is missing"}},
		"without privacy": {"HOST_PROTECTED=true\nHOST_USERS_FROM_DB=true\nUSERS_API_SECRET=" + secretA + "\nUSERS_API_ENDPOINT=http://a.example.com/v1/user/isAuth", []string{"portal.users_url: http:// is not encrypted"}},
	} {
		t.Run(name, func(t *testing.T) {
			inFolder(t, "usher.yaml", mirotalkBase, "mirotalk.env", test.env+"\n")
			c, err := config.Load([]string{"usher.yaml", "mirotalk.env"}, nil)
			problems, _ := texts(t, c, err)
			for _, want := range test.want {
				if !slices.ContainsFunc(problems, func(p string) bool { return strings.Contains(p, want) }) {
					t.Errorf("nothing says %s", want)
				}
			}
			if len(problems) != len(test.want) {
				t.Errorf("problems:\n%s", strings.Join(problems, "\n"))
			}
			for _, secret := range []string{"good enough", "better than", "default_secret", "jwt_secret"} {
				if strings.Contains(strings.Join(problems, "\n"), secret) {
					t.Errorf("usher says %s: %q", secret, problems)
				}
			}
		})
	}
}

// TestMiroTalkKinds checks that usher tells .env files by their variables.
func TestMiroTalkKinds(t *testing.T) {
	inFolder(t, "usher.yaml", "{}", "a.env", "HOST_USERS=a:b c d", "b.env", "HOST_PROTECTED=true", "c.env", "XMPP_DOMAIN=a.example.com")
	for _, test := range []struct {
		files []string
		want  string // "" if the files are of different kinds
	}{
		{[]string{"a.env", "b.env"}, "command line: b.env is a second file of its kind"},
		{[]string{"c.env", "a.env"}, ""},
		{[]string{"c.env", "c.env"}, "command line: c.env is a second file of its kind"},
		{[]string{"nowhere.env"}, "command line: nowhere.env cannot be read"},
	} {
		c, err := config.Load(append([]string{"usher.yaml"}, test.files...), nil)
		problems, _ := texts(t, c, err)
		said := strings.Join(problems, "\n")
		if test.want != "" && !strings.Contains(said, test.want) || test.want == "" && strings.Contains(said, "second file") {
			t.Errorf("%v: %s", test.files, said)
		}
	}
}

// TestMiroTalkOff checks that MiroTalk's variables set nothing behind the operator's back, and say that accounts need a portal.
func TestMiroTalkOff(t *testing.T) {
	without := strings.Join(strings.SplitAfter(mirotalkBase, "\n")[:3], "")
	inFolder(t, "usher.yaml", without, "mirotalk.env", "HOST_PROTECTED=true\nHOST_USERS=alice:correct horse\n")
	c, err := config.Load([]string{"usher.yaml"}, []string{"HOST_PROTECTED=true", "HOST_USERS=alice:correct horse"})
	if err != nil || c.VHosts[0].AllowEmptyToken || len(c.Portal.Users) > 0 {
		t.Errorf("%v, %+v", err, c)
	}
	c = load(t, "usher.yaml", "mirotalk.env")
	_, warnings := texts(t, c, nil)
	if !c.VHosts[0].AllowEmptyToken || !strings.Contains(strings.Join(warnings, "\n"), "HOST_USERS: has no effect without portal.listen") {
		t.Errorf("warnings %q", warnings)
	}
}

// TestImportMiroTalk checks that an import of a .env file of MiroTalk writes accounts with hashes that are like no others.
func TestImportMiroTalk(t *testing.T) {
	inFolder(t, "usher.env", "HOST_PROTECTED=true\nHOST_USERS=alice:correct horse:Alice:a,b\n")
	environ := []string{"USHER_X=1"}
	yaml, err := config.Import{Docker: "usher.env", Environ: environ}.YAML()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"wait_for_host: guests # mirotalk usher.env:1 HOST_PROTECTED", "name: alice # mirotalk usher.env:2 HOST_USERS", "password_hash: $argon2id$", "rooms: [a, b]", "listen: 127.0.0.1:8087", "# To do: usher.yaml: portal.public_url: is missing"} {
		if !strings.Contains(string(yaml), want) {
			t.Errorf("%q is missing in\n%s", want, yaml)
		}
	}
	if strings.Contains(string(yaml), "correct horse") {
		t.Errorf("a password is in\n%s", yaml)
	}
	again, _ := config.Import{Docker: "usher.env"}.YAML()
	if string(again) == string(yaml) {
		t.Error("the hash has a salt that everybody can guess")
	}
}

package passhash

import (
	"os"
	"strings"
	"testing"
)

type vector struct{ hash, password string }

// vectors returns hashes that other programs have made.
func vectors(t testing.TB) (all []vector) {
	t.Helper()
	content, err := os.ReadFile("testdata/vectors.txt")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(content)) {
		line = strings.TrimSuffix(line, "\n")
		if hash, password, ok := strings.Cut(line, " "); ok && hash != "#" {
			all = append(all, vector{hash, password})
		}
	}
	if len(all) < 12 {
		t.Fatalf("only %d vectors", len(all))
	}
	return all
}

// TestVectors matches passwords against hashes of other programs.
func TestVectors(t *testing.T) {
	for _, v := range vectors(t) {
		h, err := Parse(v.hash)
		if err != nil {
			t.Errorf("%s: %v", v.hash, err)
			continue
		}
		if h.String() != v.hash {
			t.Errorf("%s has become %s", v.hash, h)
		}
		if !h.Matches(v.password) {
			t.Errorf("%s does not match %q", v.hash, v.password)
		}
		if wrong := v.password + "\x00" + v.password; h.Matches(wrong) && len(v.password) <= 72 { // else see TestBcryptEnd
			t.Errorf("%s matches %q", v.hash, wrong)
		}
	}
}

// TestBcryptEnd shows what is known of bcrypt: it reads 72 bytes.
func TestBcryptEnd(t *testing.T) {
	all := vectors(t)
	h, err := Parse(all[len(all)-1].hash)
	if err != nil || !h.Matches(strings.Repeat("x", 72)) || h.Matches(strings.Repeat("x", 71)) {
		t.Error(err)
	}
}

// TestNew makes hashes, and reads them again.
func TestNew(t *testing.T) {
	for _, password := range []string{"p:a|ss<w>", strings.Repeat("é", MaxPassword/2), " ", "tab\tand\x00nul"} {
		h, err := New(password)
		if err != nil {
			t.Fatalf("%q: %v", password, err)
		}
		again, err := Parse(h.String())
		if err != nil || !again.Matches(password) || h.Matches(password+" ") {
			t.Errorf("%q: %s, %v", password, h, err)
		}
		if other, _ := New(password); other.String() == h.String() {
			t.Errorf("%q has the same hash twice", password)
		}
		if h.Memory() != 19<<20 {
			t.Errorf("%s takes %d bytes", h, h.Memory())
		}
	}
	for password, want := range map[string]string{
		"": "is empty", strings.Repeat("x", MaxPassword+1): "is longer than 1024 bytes", "\xff": "is not UTF-8",
	} {
		if h, err := New(password); err == nil || err.Error() != want || h.String() != "" || h.Matches(password) {
			t.Errorf("%.20q: %s, %v", password, h, err)
		}
	}
}

// TestDerive makes the same hash of the same password for the same name only.
func TestDerive(t *testing.T) {
	of := func(password, name string) string {
		h, err := Derive(password, name)
		if err != nil || !h.Matches(password) {
			t.Fatal(err)
		}
		return h.String()
	}
	one := of("one", "alice")
	if one != of("one", "alice") || one == of("two", "alice") || one == of("one", "bob") {
		t.Error("another hash for the same, or the same for another")
	}
	if _, err := Derive("", "alice"); err == nil {
		t.Error("an empty password has a hash")
	}
}

// TestPrepared takes for one what people type alike (RFC 8265 §4), and nothing else.
func TestPrepared(t *testing.T) {
	h, err := New("Zoe\u0308 à\u00a0b") // e with diaeresis in two characters, and a space that does not break
	if err != nil {
		t.Fatal(err)
	}
	for password, want := range map[string]bool{
		"Zo\u00eb à b": true, "Zoe\u0308 à b": true, "zoë à b": false, "Zoe à b": false, "Zoë à  b": false, "Ｚoë à b": false,
	} {
		if h.Matches(password) != want {
			t.Errorf("%q: %v", password, !want)
		}
	}
}

// TestZero has nobody in.
func TestZero(t *testing.T) {
	if (Hash{}).Matches("") || (Hash{}).Matches("a") || (Hash{}).String() != "" {
		t.Error("the zero Hash matches")
	}
}

const goodSum = "DO4krpuLkMVGZPI7Yv0xbw7Hya6bvT8qYIEmd6SVKbk"

// TestParse refuses what is no hash, too cheap or too costly. Errors quote nothing.
func TestParse(t *testing.T) {
	const salt = "EZZDvrIqY8lQ0cQm6sE4hw"
	bcrypt := func(head string) string { return head + strings.Repeat("a", 21) + "u" + strings.Repeat("b", 31) }
	for _, tt := range []struct{ text, want string }{
		{"$argon2id$v=19$m=19456,t=2,p=1$" + salt + "$" + goodSum, ""},
		{"$argon2id$v=19$m=262144,t=16,p=16$" + salt + "$" + goodSum, ""},
		{"$argon2id$v=19$m=7168,t=5,p=1$" + salt + "$" + goodSum, ""},
		{"$argon2id$v=19$m=7167,t=16,p=1$" + salt + "$" + goodSum, "too quickly"},
		{"$argon2id$v=19$m=7168,t=4,p=1$" + salt + "$" + goodSum, "too quickly"},
		{"$argon2id$v=19$m=19456,t=1,p=1$" + salt + "$" + goodSum, "too quickly"},
		{"$argon2id$v=19$m=4096,t=3,p=1$" + salt + "$" + goodSum, "too quickly"},
		{"$argon2id$v=19$m=0,t=0,p=0$" + salt + "$" + goodSum, "too quickly"},
		{"$argon2id$v=19$m=19456,t=2,p=0$" + salt + "$" + goodSum, "too quickly"},
		{"$argon2id$v=19$m=262145,t=1,p=1$" + salt + "$" + goodSum, "takes too much"},
		{"$argon2id$v=19$m=19456,t=17,p=1$" + salt + "$" + goodSum, "takes too much"},
		{"$argon2id$v=19$m=19456,t=2,p=17$" + salt + "$" + goodSum, "takes too much"},
		{"$argon2id$v=19$m=4294967297,t=2,p=1$" + salt + "$" + goodSum, "takes too much"},
		{"$argon2id$v=19$m=19456,t=2,p=257$" + salt + "$" + goodSum, "takes too much"},
		{"$argon2id$v=19$m=+19456,t=2,p=1$" + salt + "$" + goodSum, "is no argon2id hash"},
		{"$argon2id$v=19$m=019456,t=2,p=1$" + salt + "$" + goodSum, "is no argon2id hash"},
		{"$argon2id$v=19$m=-1,t=2,p=1$" + salt + "$" + goodSum, "is no argon2id hash"},
		{"$argon2id$v=19$t=2,m=19456,p=1$" + salt + "$" + goodSum, "is no argon2id hash"},
		{"$argon2id$v=19$m=19456,t=2$" + salt + "$" + goodSum, "is no argon2id hash"},
		{"$argon2id$v=19$m=19456,t=2,p=1,data=aa$" + salt + "$" + goodSum, "is no argon2id hash"},
		{"$argon2id$v=19$m=19456,t=2,p=1$" + salt + "==$" + goodSum, "is no argon2id hash"},
		{"$argon2id$v=19$m=19456,t=2,p=1$" + salt + "\n$" + goodSum, "is no argon2id hash"},
		{"$argon2id$v=19$m=19456,t=2,p=1$c2hvcnQ$" + goodSum, "is no argon2id hash"},
		{"$argon2id$v=19$m=19456,t=2,p=1$" + salt + "$c2hvcnQ", "is no argon2id hash"},
		{"$argon2id$v=19$m=19456,t=2,p=1$" + salt + "$" + goodSum[:42] + "l", "is no argon2id hash"}, // the last bits are not 0
		{"$argon2id$v=19$m=19456,t=2,p=1$" + salt + "$" + strings.Repeat("a", 100), "is no argon2id hash"},
		{"$argon2id$v=19$m=19456,t=2,p=1$" + salt, "is no argon2id hash"},
		{"$argon2id$v=19$m=19456,t=2,p=1$" + salt + "$" + goodSum + "$", "is no argon2id hash"},
		{"$argon2id$m=19456,t=2,p=1$" + salt + "$" + goodSum, "is no argon2id hash"},
		{"$argon2id$v=16$m=19456,t=2,p=1$" + salt + "$" + goodSum, "another version"},
		{"$argon2i$v=19$m=19456,t=2,p=1$" + salt + "$" + goodSum, "a kind that usher does not know"},
		{"$6$rounds=5000$abc$def", "a kind that usher does not know"},
		{"{SHA}abc", "a kind that usher does not know"},
		{"", "is no argon2id hash"},
		{"hunter2", "is no argon2id hash"},
		{bcrypt("$2b$10$"), ""},
		{bcrypt("$2a$15$"), ""},
		{bcrypt("$2y$12$"), ""},
		{bcrypt("$2b$09$"), "of cost 9"},
		{bcrypt("$2b$16$"), "of cost 16"},
		{bcrypt("$2b$32$"), "is no argon2id hash"},
		{bcrypt("$2x$12$"), "is no argon2id hash"},
		{bcrypt("$2$12$"), "is no argon2id hash"},
		{bcrypt("$2b$1$"), "is no argon2id hash"},
		{bcrypt("$2b$12-"), "is no argon2id hash"},
		{bcrypt("$2b$12$") + "a", "is no argon2id hash"},
		{bcrypt("$2b$12$")[:59], "is no argon2id hash"},
		{bcrypt("$2b$12$")[:59] + "=", "is no argon2id hash"},
	} {
		h, err := Parse(tt.text)
		switch {
		case tt.want == "" && (err != nil || h.String() != tt.text):
			t.Errorf("%s: %v", tt.text, err)
		case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want) || h.String() != ""):
			t.Errorf("%s: %s, %v; want %s", tt.text, h, err, tt.want)
		case err != nil && len(tt.text) > 3 && strings.Contains(err.Error(), tt.text):
			t.Errorf("%s is quoted: %v", tt.text, err)
		}
	}
}

// TestKnown has the examples of MiroTalk SFU.
func TestKnown(t *testing.T) {
	for password, want := range map[string]bool{
		"admin": true, "Admin": true, "password": true, " password2": true, "password3": true, "guest": true, "mirotalkweb_default_secret": true,
		"changeme": true, "correct horse battery staple": false, "": false,
	} {
		if Known(password) != want {
			t.Errorf("%q: %v", password, !want)
		}
	}
}

// FuzzParse finds no text that stops usher, or that is taken for a hash and is not within the bounds, or not the one spelling of its hash.
func FuzzParse(f *testing.F) {
	for _, v := range vectors(f) {
		f.Add(v.hash)
	}
	f.Add("$argon2id$v=19$m=19456,t=2,p=1$EZZDvrIqY8lQ0cQm6sE4hw$" + goodSum)
	f.Add("$argon2id$v=19$m=4294967295,t=4294967295,p=255$AA$AA")
	f.Add("$2b$10$")
	f.Fuzz(func(t *testing.T, text string) {
		h, err := Parse(text)
		if err != nil {
			if h.String() != "" || h.Matches(text) {
				t.Fatalf("%q: an error and a hash", text)
			}
			return
		}
		a := h.argon
		if h.String() != text || h.Memory() > 256<<20 || h.Memory() <= 0 {
			t.Fatalf("%q: %s of %d bytes", text, h, h.Memory())
		}
		if a.memory != 0 && (a.passes == 0 || a.passes > maxPasses || a.lanes == 0 || a.lanes > maxLanes || a.memory*a.passes < minWork) {
			t.Fatalf("%q: %+v", text, a)
		}
	})
}

package auth

import "testing"

func TestMatchRoom(t *testing.T) {
	for _, tt := range []struct {
		pattern, tenant, name string
		want                  bool
	}{
		{"standup", "", "standup", true},
		{"standup", "acme", "standup", false}, // another tenant's room of that name is another room
		{"standup", "", "standup2", false},
		{"standup-*", "", "standup-a/b", true}, // a slash is nothing special
		{"*", "", "anything", true},
		{"*", "acme", "anything", false},
		{"[acme]*", "acme", "standup", true},
		{"[acme]*", "", "a", false}, // no class of characters
		{"[acme]*", "", "acme", false},
		{"[acme]standup", "acme", "standup", true},
		{"[acme]standup", "other", "standup", false},
		{"[*]*", "acme", "standup", true},
		{"[*]*", "", "standup", true},
		{"[acme", "acme", "standup", false},
		{"[]standup", "", "standup", false},
		{"a[b", "", "a[b", false}, // no pattern of path.Match
		{"", "", "", false},
		{"*", "", "", false}, // no room
	} {
		if got := MatchRoom(tt.pattern, Room{Tenant: tt.tenant, Name: tt.name}); got != tt.want {
			t.Errorf("%q, [%s]%s: %t", tt.pattern, tt.tenant, tt.name, got)
		}
	}
	for pattern, ok := range map[string]bool{"standup": true, "[acme]a*": true, "[*]*": true, "café-?": true, "Standup": false, "[acme": false, "": false, "[acme]": false, "a[b": false} {
		if err := CheckPattern(pattern); (err == nil) != ok {
			t.Errorf("%q: %v", pattern, err)
		}
	}
}

// What is minted for a name opens the rooms of that name, and of no other.
func TestClaimOfRoom(t *testing.T) {
	for text, want := range map[string]string{
		"standup": "standup", "Stand Up": "stand up", "my%20room": "my room", "[ACME]standup": "[acme]standup", "café": "café",
		"%2A": "%2A", "team-%2541": "team-%2541", "%5Bacme%5Dx": "%5Bacme%5Dx",
	} {
		room, err := ParseRoomName(text)
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		claim := room.Claim()
		if claim != want {
			t.Errorf("%q: %+v, %q, want %q", text, room, claim, want)
		}
		if again, err := ParseRoomName(claim); err != nil || again.String() != room.String() {
			t.Errorf("%q: %q means %+v, %v, want %+v", text, claim, again, err, room)
		}
	}
	if got := (Room{Name: wildcard}).Claim(); got == wildcard {
		t.Error("a room named * gets the wildcard")
	}
}

func FuzzClaimOfRoom(f *testing.F) {
	for _, text := range []string{"standup", "[acme]standup", "%2541", "%2A", "*", "[*]*", "a%5D", "[a%5Db]c", "Σ%", "100%25"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		room, err := ParseRoomName(text)
		if err != nil {
			return
		}
		claim := room.Claim()
		if claim == "" {
			return
		}
		if again, err := ParseRoomName(claim); err != nil || again.String() != room.String() || claim == wildcard {
			t.Errorf("%q: %+v, %q, which means %+v, %v", text, room, claim, again, err)
		}
	})
}

package doctor_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/xmpp-usher/usher/component/doctor"
)

// In a right setup every check is ok, and nothing is left of the examination.
func TestRight(t *testing.T) {
	for name, tt := range map[string]struct{ module, jitsi bool }{
		"members-only": {}, "module": {module: true}, "Jitsi, members-only": {jitsi: true}, "Jitsi, module": {module: true, jitsi: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			right(t, tt.module, tt.jitsi)
		})
	}
}

func right(t *testing.T, module, jitsi bool) {
	t.Helper()
	p := admit(t, module, jitsi, "", "")
	j := p.jicofo()
	got := p.examined()
	p.found(got, nil)
	p.clean()
	if rooms := j.Rooms(); len(rooms) > 0 {
		t.Errorf("Jicofo is still in %v", rooms)
	}
	if asked := j.Requests(); len(asked) == 0 || !strings.HasSuffix(asked[0].User, "@meet.example.com/doctor") || asked[0].Token != "" {
		t.Errorf("Jicofo was asked %+v", asked)
	}
	if i := slices.IndexFunc(got, func(c doctor.Check) bool { return c.Code == "jicofo" }); got[i].Says != `Jicofo is online as "focus"` {
		t.Error(got[i])
	}
	// Twice, for whatever the first examination may have changed.
	p.found(p.examined(), nil)
}

// If owners can make rooms persistent the report says so, as far as the doctor can see it.
func TestPersistent(t *testing.T) {
	t.Parallel()
	p := admit(t, false, false, "muc_room_allow_persistent = false", "")
	p.jicofo()
	got := p.examined()
	seen := strings.HasPrefix(p.Version(), "0.")
	p.found(got, map[doctor.Status]string{map[bool]doctor.Status{true: doctor.Warn, false: doctor.OK}[seen]: "room-persistent"})
	c := got[slices.IndexFunc(got, func(c doctor.Check) bool { return c.Code == "room-persistent" })]
	if want := `muc_room_allow_persistent = false below Component "conference.meet.example.com" "muc"`; seen && c.Mend != want || !seen && !strings.Contains(c.Says, "look yourself") {
		t.Errorf("%+v", c)
	}
	p.clean()
}

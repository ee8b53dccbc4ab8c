package component_test

import "testing"

// The story of the README: a host opens a room, a member and a guest come in, everybody else stays outside.
func TestStory(t *testing.T) {
	t.Parallel()
	alone(t, func(t *testing.T, m mode) {
		g := m.begin(t)
		host, mem, guest := g.person("meet.example.com"), g.person("meet.example.com"), g.person("guest.meet.example.com")

		if got := guest.asks(room, ""); got != "not-authorized host-absent" {
			t.Errorf("guest before the host: %s", got)
		}
		if got := host.asks(room, mint(t, nil)); got != "ready" {
			t.Fatalf("host: %s", got)
		}
		if got := host.joins(room); got != "owner moderator" {
			t.Errorf("host joins as %s", got)
		}
		if got := mem.asks(room, mint(t, member)); got != "ready" {
			t.Errorf("member: %s", got)
		}
		if got := mem.joins(room); got != "member participant" {
			t.Errorf("member joins as %s", got)
		}
		if got := guest.asks(room, ""); got != "ready" {
			t.Errorf("guest after the host: %s", got)
		}
		if got := guest.joins(room); got != "member participant" {
			t.Errorf("guest joins as %s", got)
		}
		host.leaves(room)
		if got := g.person("guest.meet.example.com").asks(room, ""); got != "not-authorized host-absent" {
			t.Errorf("guest after the host left: %s", got)
		}
		if got := g.person("guest.meet.example.com").joins(room); got != "registration-required" {
			t.Errorf("guest who did not ask: %s", got)
		}
		if got := g.person("guest.meet.example.com").joins("fresh@" + service); got != m.uncreated() {
			t.Errorf("guest who creates a room: %s", got)
		}
	})
}

package component_test

import "testing"

// A room that has just ended begins again at once: ejabberd answers nothing that reaches a room while it ends.
func TestRoomBeginsAgain(t *testing.T) {
	t.Parallel()
	alone(t, func(t *testing.T, m mode) {
		g := m.begin(t)
		host := g.person("meet.example.com")
		for range 30 {
			host.enters(room, mint(t, nil))
			host.leaves(room)
		}
	})
}

package prosodytest

import (
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const small = `
VirtualHost "meet.example.com"
  authentication = "anonymous"
VirtualHost "users.example.com"
Component "focus.meet.example.com"
  component_secret = "secret"
`

func TestClients(t *testing.T) {
	s := Start(t, Options{Config: small, Users: map[string]string{"juliet@users.example.com": `R"\ömeo`}})
	t.Log(s.Version())
	focus := s.Component(t, "focus.meet.example.com", "secret")
	for name, o := range map[string]ClientOptions{
		"anonymous TCP":       {Host: "meet.example.com"},
		"anonymous WebSocket": {Host: "meet.example.com", Transport: WebSocket},
		"PLAIN TCP":           {Host: "users.example.com", User: "juliet", Password: `R"\ömeo`},
		"PLAIN WebSocket":     {Host: "users.example.com", User: "juliet", Password: `R"\ömeo`, Transport: WebSocket, Resource: "balcony"},
	} {
		t.Run(name, func(t *testing.T) {
			c := s.Client(t, o)
			c.Sends(`<message to='focus.meet.example.com'><body>Hello</body></message>`)
			focus.Receives(`<message from='` + c.JID() + `'><body>Hello</body></message>`)
		})
	}
}

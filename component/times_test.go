package component_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap/zapcore"

	"github.com/xmpp-usher/usher/pkg/token"
)

// A token that ends with the year 9999, leeway not included, gives a grant and a session that can be written down. One that was
// made in an hour, says a clock that is ahead, is let in, and the debug log says so.
func TestTimesOfTokens(t *testing.T) {
	t.Parallel()
	g := start(t)
	host := g.person("meet.example.com")
	host.enters(room, mint(t, func(c *token.Claims) {
		c.Expires = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)
		c.IssuedAt = time.Now().Add(time.Hour)
	}))
	e := g.logged("the token has claims that decided nothing and are odd")
	if e.Level != zapcore.DebugLevel || !strings.Contains(fmt.Sprint(e.ContextMap()["notes"]), "iat: in ") {
		t.Errorf("%s %v", e.Level, e.ContextMap())
	}
	if said := g.logged("request").ContextMap(); said["verdict"] != "allow" || said["notes"] != nil {
		t.Errorf("%v", said)
	}
}

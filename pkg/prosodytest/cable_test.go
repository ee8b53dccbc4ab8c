package prosodytest_test

import (
	"io"
	"net"
	"testing"

	"github.com/xmpp-usher/usher/pkg/prosodytest"
)

// TestCable shows that data of a stalled cable arrives after Mend, and that a cut cable closes its connections.
func TestCable(t *testing.T) {
	server := prosodytest.Start(t, prosodytest.Options{Config: `
		VirtualHost "example.com"
		  authentication = "anonymous"
		Component "echo.example.com"
		  component_secret = "secret"
	`})
	cable := prosodytest.NewCable(t, server.ComponentAddr)
	server.ComponentAddr = cable.Addr()
	echo := server.Component(t, "echo.example.com", "secret")
	juliet := server.Client(t, prosodytest.ClientOptions{Host: "example.com"})

	cable.Stall()
	juliet.Sends("<message to='echo.example.com'><body>later</body></message>")
	if err := juliet.Sync(t.Context()); err != nil { // so that Prosody has passed the message on
		t.Fatal(err)
	}
	if got := echo.Drain(); len(got) > 0 {
		t.Errorf("arrived through a stalled cable: %v", got)
	}
	cable.Mend()
	echo.Receives("<message><body>later</body></message>")

	cable.Cut()
	<-echo.Done()
	if _, err := server.DialComponent(t.Context(), "echo.example.com", "secret"); err == nil {
		t.Error("connected through a cable that is cut")
	}
	cable.Mend()
	echo = server.Component(t, "echo.example.com", "secret")
	juliet.Sends("<message to='echo.example.com'><body>again</body></message>")
	echo.Receives("<message><body>again</body></message>")
}

// An end that has closed its side receives what the other one sends afterwards, as without a cable.
func TestCableWithOneSideClosed(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	client, err := net.Dial("tcp4", prosodytest.NewCable(t, l.Addr().String()).Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	server, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if err := client.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, server); err != nil { // which sees that
		t.Fatal(err)
	}
	if _, err := io.WriteString(server, "late"); err != nil {
		t.Fatal(err)
	}
	server.Close()
	if got, err := io.ReadAll(client); string(got) != "late" || err != nil {
		t.Errorf("received %q, %v", got, err)
	}
}

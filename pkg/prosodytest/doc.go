// Package prosodytest runs a private Prosody for one test, as net/http/httptest runs a private HTTP server, and has
// clients to talk to it.
//
//	func TestWelcome(t *testing.T) {
//		server := prosodytest.Start(t, prosodytest.Options{Config: `
//			VirtualHost "example.com"
//			  authentication = "anonymous"
//			Component "rooms.example.com" "muc"
//			Component "echo.example.com"
//			  component_secret = "secret"
//		`})
//		echo := server.Component(t, "echo.example.com", "secret")
//		juliet := server.Client(t, prosodytest.ClientOptions{Host: "example.com"})
//		juliet.Sends(`<message to='echo.example.com'><body>Hello</body></message>`)
//		echo.Receives(`<message from='` + juliet.JID() + `'><body>Hello</body></message>`)
//	}
//
// For tests of a Jitsi Meet the package has the configuration of a server ([JitsiConfig]) with small stand-ins for Jitsi's
// modules, a [Jicofo], and an [Observer] that looks at rooms from outside. The stand-ins behave as Jitsi's programs do, as
// far as others can see it. README.md beside this file lists what they play, and what they do not:
//
//	o := prosodytest.JitsiOptions{Breakout: true}
//	server := prosodytest.Start(t, o.Options())
//	jicofo := server.Jicofo(t, o.Jicofo())
//	observer := server.Observe(t, o.Observer())
//
// The server is a stock Prosody 0.12 or 13. PROSODYTEST_PROSODY in the environment names the program; without it, prosody
// is looked up on PATH. A test that finds no Prosody is skipped, or fails if PROSODYTEST_REQUIRED is 1.
// PROSODYTEST_PROSODY=none skips at once every test that needs a server.
//
// The server listens on 127.0.0.1 only and keeps everything in a folder of the test. It needs neither root nor
// certificates. It serves clients over TCP, WebSocket and BOSH, and components by XEP-0114; it knows no other servers. It
// ends with the test, and also when the test's process dies. It runs where Prosody does: on Unix.
package prosodytest

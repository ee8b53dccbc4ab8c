// Package ejabberdtest runs a private ejabberd for one test, as package prosodytest runs a private Prosody. The server that it
// returns is a [prosodytest.Server], so clients, components and patterns of stanzas are those of that package:
//
//	server := ejabberdtest.Start(t, ejabberdtest.Options{Configure: gate.Server{...}.YAML})
//	juliet := server.Client(t, prosodytest.ClientOptions{Host: "example.com"})
//
// [Observe] returns a [prosodytest.Observer], which looks at rooms from outside.
//
// The server is Debian's ejabberd, from its usual place. It listens on 127.0.0.1 only, keeps everything in the folder of the test,
// has no node name, and so needs no epmd. It ends with the test, and also when the test's process dies.
package ejabberdtest

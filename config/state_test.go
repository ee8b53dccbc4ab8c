package config

import "testing"

func TestStateFolder(t *testing.T) {
	for _, test := range []struct {
		environ map[string]string
		root    bool
		want    string
	}{
		{map[string]string{"STATE_DIRECTORY": "/var/lib/a:/var/lib/b", "HOME": "/home/o"}, true, "/var/lib/a"},
		{map[string]string{"HOME": "/home/o", "XDG_STATE_HOME": "/home/o/state"}, true, "/var/lib/usher"},
		{map[string]string{"STATE_DIRECTORY": "/var/lib/private/usher", "HOME": "/home/o"}, false, "/var/lib/private/usher"},
		{map[string]string{"HOME": "/home/o", "XDG_STATE_HOME": "/home/o/state"}, false, "/home/o/state/usher"},
		{map[string]string{"HOME": "/home/o", "XDG_STATE_HOME": "state"}, false, "/home/o/.local/state/usher"},
		{map[string]string{"HOME": "/home/o"}, false, "/home/o/.local/state/usher"},
		{map[string]string{"HOME": ""}, false, ""},
	} {
		got, err := stateFolder(func(name string) string { return test.environ[name] }, test.root)
		if got != test.want || (err == nil) != (test.want != "") {
			t.Errorf("%v, root %t: got %q, %v; want %q", test.environ, test.root, got, err, test.want)
		}
	}
}

package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// FuzzLoad checks that no YAML document makes Load panic, and that what it accepts is complete. The seeds are the files
// of testdata/config, and the example.
func FuzzLoad(f *testing.F) {
	files, err := filepath.Glob("../testdata/config/*.yaml")
	if err != nil || len(files) == 0 {
		f.Fatal("no seeds", err)
	}
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(content)
	}
	f.Add(Example)
	f.Fuzz(func(t *testing.T, content []byte) {
		l := newLoader("../testdata/config/fuzz.yaml") // its folder has the secret files
		l.readFile(content)
		if l.garbled && len(l.problems) == 0 {
			t.Fatal("not read, but no problem")
		}
		c, err := l.result(l.finish(nil, nil))
		if err != nil {
			if err.Error() == "" || !strings.Contains(err.Error(), "fuzz.yaml") {
				t.Fatalf("a problem without source: %q", err)
			}
			return
		}
		if c.XMPP.Domain.String() == "" || c.XMPP.Secret.Reveal() == "" || len(c.Rooms.Services) == 0 || len(c.VHosts) == 0 {
			t.Fatalf("accepted, but incomplete: %+v", c)
		}
		for _, v := range c.VHosts {
			if v.Kind == KindToken && len(v.Issuers) == 0 {
				t.Fatalf("%s has no issuer", v.Domain)
			}
			for _, i := range v.Issuers {
				if i.AppID == "" || len(i.Algorithms) == 0 || len(i.AcceptedIssuers) == 0 || len(i.AcceptedAudiences) == 0 ||
					(len(i.AppSecrets) == 0) == (len(i.PublicKeyFiles) == 0 &&
						i.JWKSFile+i.JWKSURL+i.ASAPKeyServer+i.CacheKeysURL == "") {
					t.Fatalf("an incomplete issuer of %s: %+v", v.Domain, i)
				}
			}
		}
	})
}

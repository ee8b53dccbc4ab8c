package signing_test

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/xmpp-usher/usher/auth/keys"
	"github.com/xmpp-usher/usher/auth/portal/signing"
)

var start = time.Date(2030, 1, 31, 9, 0, 0, 0, time.UTC)

// clock is a clock that stands until it is set.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func (c *clock) now() time.Time  { c.mu.Lock(); defer c.mu.Unlock(); return c.at }
func (c *clock) set(t time.Time) { c.mu.Lock(); defer c.mu.Unlock(); c.at = t }

// open makes keys in a new file.
func open(t *testing.T) (*signing.Keys, string, *clock) {
	t.Helper()
	c := &clock{at: start}
	path := filepath.Join(t.TempDir(), "state", "portal-keys.json")
	k, err := signing.Open(path, c.now)
	if err != nil {
		t.Fatal(err)
	}
	return k, path, c
}

// published returns the ids of the published keys, as others read them.
func published(t *testing.T, k *signing.Keys) (ids []string) {
	t.Helper()
	all, skipped, err := keys.JWKS(k.Public())
	if err != nil || len(skipped) > 0 {
		t.Fatal(err, skipped)
	}
	for _, key := range all {
		ids = append(ids, key.ID)
	}
	return ids
}

func TestFirstStart(t *testing.T) {
	k, path, c := open(t)
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Error("the file is not for its owner alone:", info.Mode(), err)
	}
	kid, key := k.Current()
	if ids := published(t, k); !slices.Equal(ids, []string{kid}) {
		t.Errorf("%q signs, and %q is published", kid, ids)
	}
	again, err := signing.Open(path, c.now)
	if err != nil {
		t.Fatal(err)
	}
	if other, same := again.Current(); other != kid || !same.Equal(key) {
		t.Error("the second start makes another key")
	}
	if strings.Contains(string(k.Public()), `"d"`) {
		t.Error("the private key is published")
	}
}

// TestManyStarts: ushers that start at the same time have the same key.
func TestManyStarts(t *testing.T) {
	path := filepath.Join(t.TempDir(), "portal-keys.json")
	ids := make([]string, 8)
	var all sync.WaitGroup
	for n := range ids {
		all.Go(func() {
			k, err := signing.Open(path, func() time.Time { return start })
			if err != nil {
				t.Error(err)
				return
			}
			ids[n], _ = k.Current()
		})
	}
	all.Wait()
	if slices.Sort(ids); ids[0] != ids[len(ids)-1] {
		t.Error("they have different keys:", ids)
	}
}

// TestRotate follows a rotation in a running usher: the new key is published at once, signs later, and the old one counts until its last
// token has ended.
func TestRotate(t *testing.T) {
	k, path, c := open(t)
	old, _ := k.Current()
	c.set(start.Add(time.Hour))
	if err := signing.Rotate(path, c.now()); err != nil {
		t.Fatal(err)
	}
	if err := signing.Rotate(path, c.now()); err == nil {
		t.Error("a second rotation before the new key signs is not refused")
	}
	if kid, _ := k.Current(); kid != old {
		t.Error("the new key signs before others can know it")
	}
	both := published(t, k)
	if len(both) != 2 {
		t.Fatal("published:", both)
	}
	c.set(start.Add(time.Hour + signing.Overlap))
	fresh, _ := k.Current()
	if fresh == old || !slices.Contains(both, fresh) {
		t.Errorf("%q signs, after %q", fresh, old)
	}
	last := c.now().Add(signing.Longest)
	c.set(last)
	if verifies(t, k, old) != true {
		t.Error("the old key does not count any more, although its last token has not ended")
	}
	c.set(last.Add(2 * time.Hour))
	if verifies(t, k, old) || !verifies(t, k, fresh) || len(published(t, k)) != 1 {
		t.Error("the old key counts for ever")
	}
	if err := signing.Rotate(path, c.now()); err != nil {
		t.Fatal(err)
	}
	if text, _ := os.ReadFile(path); strings.Contains(string(text), old) {
		t.Error("the old key stays in the file")
	}
	listed, err := signing.List(path, c.now())
	if err != nil || len(listed) != 2 || listed[0].ID != fresh || !listed[0].Signs || listed[1].Signs || !listed[1].Counts {
		t.Errorf("%+v, %v", listed, err)
	}
}

// verifies reports whether a key counts, by its id and by its origin.
func verifies(t *testing.T, k *signing.Keys, kid string) bool {
	t.Helper()
	all, err := k.Keys(context.Background(), kid)
	if err != nil || len(all) > 1 {
		t.Fatal(all, err)
	}
	if counts := k.Counts("portal key " + kid); counts != (len(all) == 1) {
		t.Errorf("as a key it counts: %t; its sessions count: %t", len(all) == 1, counts)
	}
	return len(all) == 1
}

func TestReplace(t *testing.T) {
	k, path, c := open(t)
	old, _ := k.Current()
	if err := signing.Replace(path, c.now()); err != nil {
		t.Fatal(err)
	}
	if kid, _ := k.Current(); kid == old || verifies(t, k, old) || !verifies(t, k, kid) {
		t.Error("the old key counts")
	}
}

// TestBeforeFirstStart: who only reads has the keys once there are any.
func TestBeforeFirstStart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "portal-keys.json")
	now := func() time.Time { return start }
	k, err := signing.Read(path, now)
	if err != nil {
		t.Fatal(err)
	}
	kid, key := k.Current()
	if all, err := k.Keys(context.Background(), ""); err != nil || len(all) > 0 || kid != "" || key != nil || string(k.Public()) != `{"keys":[]}` {
		t.Error("there are keys before there is a file:", all, err, kid, string(k.Public()))
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("reading has made a file")
	}
	if _, err := signing.Open(path, now); err != nil {
		t.Fatal(err)
	}
	if kid, _ := k.Current(); !verifies(t, k, kid) {
		t.Error("the new keys are not taken")
	}
	if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := signing.Read(path, now); err == nil {
		t.Error("a bad file is taken")
	}
}

func TestRefuses(t *testing.T) {
	_, path, c := open(t)
	good, _ := os.ReadFile(path)
	var set struct{ Keys []map[string]any }
	if err := json.Unmarshal(good, &set); err != nil {
		t.Fatal(err)
	}
	d := set.Keys[0]["d"].(string)
	_, other, _ := ed25519.GenerateKey(nil)
	for name, text := range map[string]string{
		"nothing":         "",
		"no set":          `[]`,
		"no key":          `{"keys": []}`,
		"a public key":    strings.Replace(string(good), `"d"`, `"e"`, 1),
		"another curve":   strings.Replace(string(good), `Ed25519`, `X25519`, 1),
		"a short key":     strings.Replace(string(good), d, d[:20], 1),
		"no kid":          strings.Replace(string(good), `"kid"`, `"kit"`, 1),
		"two halves":      strings.Replace(string(good), d, encode(other.Seed()), 1),
		"one key twice":   strings.Replace(string(good), `[`, `[`+string(must(json.Marshal(set.Keys[0])))+`,`, 1),
		"numbers as text": strings.Replace(string(good), `"`+d+`"`, `1234567890123`, 1),
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := signing.Open(path, c.now)
		switch {
		case err == nil:
			t.Error(name, "is taken")
		case !strings.Contains(err.Error(), path):
			t.Error(name, "does not name the file:", err)
		case strings.Contains(err.Error(), d[:10]) || strings.Contains(err.Error(), "1234567890123"):
			t.Error(name, "shows a key:", err)
		}
	}
	_ = os.WriteFile(path, good, 0o600)
	_ = os.Chmod(path, 0o640)
	if _, err := signing.Open(path, c.now); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Error("a file that others can read:", err)
	}
}

// TestBadChange: a running usher keeps its keys when the file becomes unreadable, tells it once, and takes the next good file.
func TestBadChange(t *testing.T) {
	k, path, c := open(t)
	var told []error
	k.Failed = func(err error) { told = append(told, err) }
	good, _ := os.ReadFile(path)
	kid, _ := k.Current()
	if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if now, _ := k.Current(); now != kid {
			t.Error("the key has changed")
		}
	}
	if len(told) != 1 {
		t.Error("it was told:", told)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		k.Current()
	}
	if len(told) != 2 {
		t.Error("it was told:", told)
	}
	if err := os.WriteFile(path, good, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := signing.Replace(path, c.now()); err != nil {
		t.Fatal(err)
	}
	if now, _ := k.Current(); now == kid {
		t.Error("the new file is not taken")
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

package signing

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/xmpp-usher/usher/pkg/smallfile"
)

// document is a JWK Set, and jwk one of its keys.
type (
	document struct {
		Keys []jwk `json:"keys"`
	}
	jwk struct {
		Type      string     `json:"kty"`
		Curve     string     `json:"crv"`
		X         string     `json:"x"`
		D         string     `json:"d,omitempty"`
		ID        string     `json:"kid"`
		Use       string     `json:"use,omitempty"`
		Algorithm string     `json:"alg,omitempty"`
		From      *time.Time `json:"usher_from,omitempty"`
	}
)

// maxFile is how long a file with keys may be, in bytes.
const maxFile = 256 << 10

// Rotate adds a key to a file, which is published at once and signs after [Overlap]. Keys that do not count any more go. A running usher
// takes the new file by itself.
func Rotate(path string, now time.Time) error {
	return change(path, func(all []pair) ([]pair, error) {
		if len(all) > 0 && all[len(all)-1].from.After(now) {
			return nil, fmt.Errorf("a new key is there already, and signs from %s", all[len(all)-1].from.UTC().Format(time.RFC3339))
		}
		p, err := generate(now.Add(Overlap).Truncate(time.Second))
		return append(living(all, now), p), err
	})
}

// Replace puts a new key in the place of all others, because somebody else may have got them: it signs at once, and tokens signed before
// do not count any more.
func Replace(path string, now time.Time) error {
	return change(path, func([]pair) ([]pair, error) {
		p, err := generate(now.Truncate(time.Second))
		return []pair{p}, err
	})
}

// ensure makes a file with one key if there is none, and its folder.
func ensure(path string, now time.Time) error {
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("could not make the folder for the portal's key: %w", err)
	}
	err := locked(path, func() error {
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			return err // another usher was faster
		}
		p, err := generate(now.Truncate(time.Second))
		if err != nil {
			return err
		}
		return write(path, []pair{p}, nil)
	})
	if err != nil {
		return fmt.Errorf("could not make the portal's key: %w", err)
	}
	return nil
}

// change changes the keys of a file, while nobody else does.
func change(path string, how func([]pair) ([]pair, error)) error {
	if end, err := filepath.EvalSymlinks(path); err == nil {
		path = end // a link stays a link
	}
	return locked(path, func() error {
		all, info, err := load(path)
		if err != nil {
			return err
		}
		if all, err = how(all); err != nil {
			return err
		}
		return write(path, all, info)
	})
}

// locked does something with a file while nobody else does.
func locked(path string, do func() error) error {
	folder, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer folder.Close() // which unlocks it
	if err := syscall.Flock(int(folder.Fd()), syscall.LOCK_EX); err != nil {
		return fmt.Errorf("locking %s: %w", folder.Name(), err)
	}
	return do()
}

// load reads a file. It returns what it has found out about the file in any case.
func load(path string) ([]pair, fs.FileInfo, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, nil, err
	}
	if open := info.Mode().Perm() & 0o077; open != 0 {
		return nil, info, fmt.Errorf("%s: others than its owner can read or write it (mode %04o), and with its keys they could let in everybody: chmod 600 %s",
			path, info.Mode().Perm(), path)
	}
	text, err := smallfile.Read(path, maxFile)
	if err != nil {
		return nil, info, err
	}
	all, err := parse(text)
	if err != nil {
		return nil, info, fmt.Errorf("%s: %w", path, err)
	}
	return all, info, nil
}

// parse reads keys. Its error quotes nothing.
func parse(text []byte) ([]pair, error) {
	var set document
	if json.Unmarshal(text, &set) != nil {
		return nil, errors.New(`not a JWK Set: want {"keys": [{...}, ...]}`)
	}
	if len(set.Keys) == 0 {
		return nil, errors.New("it has no key: remove it, and usher makes a new one at the next start")
	}
	var all []pair
	for n, j := range set.Keys {
		p, err := private(j)
		if err != nil {
			return nil, fmt.Errorf("key %d: %w", n+1, err)
		}
		if slices.ContainsFunc(all, func(other pair) bool { return other.kid == p.kid }) {
			return nil, fmt.Errorf("key %d: another key has the same kid", n+1)
		}
		all = append(all, p)
	}
	slices.SortStableFunc(all, func(a, b pair) int { return a.from.Compare(b.from) })
	return all, nil
}

// private reads a private key.
func private(j jwk) (pair, error) {
	if j.Type != "OKP" || j.Curve != "Ed25519" {
		return pair{}, errors.New(`want an Ed25519 key ("kty": "OKP", "crv": "Ed25519")`)
	}
	seed, err := base64.RawURLEncoding.DecodeString(j.D)
	x, wrong := base64.RawURLEncoding.DecodeString(j.X)
	if err != nil || wrong != nil || len(seed) != ed25519.SeedSize {
		return pair{}, errors.New(`its "d" or "x" is not that of a private Ed25519 key`)
	}
	p := pair{kid: j.ID, private: ed25519.NewKeyFromSeed(seed)}
	if !p.private.Public().(ed25519.PublicKey).Equal(ed25519.PublicKey(x)) {
		return pair{}, errors.New(`its "x" and "d" are not of one key`)
	}
	if p.kid == "" {
		return pair{}, errors.New(`its "kid" is missing`)
	}
	if j.From != nil {
		p.from = *j.From
	}
	return p, nil
}

// public returns the public half of a key.
func public(p pair) jwk {
	x := base64.RawURLEncoding.EncodeToString(p.private.Public().(ed25519.PublicKey))
	return jwk{Type: "OKP", Curve: "Ed25519", X: x, ID: p.kid, Use: "sig", Algorithm: "EdDSA"}
}

// generate makes a key that signs from a time on. Its id is its thumbprint (RFC 7638, RFC 8037 §2).
func generate(from time.Time) (pair, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return pair{}, err
	}
	p := pair{from: from, private: key}
	sum := sha256.Sum256(fmt.Appendf(nil, `{"crv":"Ed25519","kty":"OKP","x":"%s"}`, public(p).X))
	p.kid = base64.RawURLEncoding.EncodeToString(sum[:])
	return p, nil
}

// write writes a file whole or not at all, for its owner alone. A file in the place of another one belongs to the same user: an operator
// may rotate as root what usher reads as its own user.
func write(path string, all []pair, before fs.FileInfo) error {
	var set document
	for _, p := range all {
		j := public(p)
		j.D = base64.RawURLEncoding.EncodeToString(p.private.Seed())
		if !p.from.IsZero() {
			from := p.from.UTC()
			j.From = &from
		}
		set.Keys = append(set.Keys, j)
	}
	text, err := json.MarshalIndent(set, "", "  ")
	if err != nil {
		return err
	}
	part, err := os.CreateTemp(filepath.Dir(path), ".usher-keys-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(part.Name()) // is gone already if all went well
	_, err = part.Write(append(text, '\n'))
	if before != nil {
		if owner, ok := before.Sys().(*syscall.Stat_t); ok && err == nil {
			err = part.Chown(int(owner.Uid), int(owner.Gid))
		}
	}
	if err = errors.Join(err, part.Sync(), part.Close()); err != nil {
		return err
	}
	return os.Rename(part.Name(), path)
}

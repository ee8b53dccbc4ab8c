package config

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"unicode"
)

// Secret is a text that must not be printed. However it is formatted or marshalled, the result is "******". The zero value is
// the empty text.
type Secret struct {
	// A pointer, because fmt prints an unexported field of another struct without its methods. It prints an address then.
	text *string
}

// NewSecret returns a text as a secret.
func NewSecret(text string) Secret { return Secret{&text} }

// Reveal returns the text, to sign, verify or log in with it.
func (s Secret) Reveal() string {
	if s.text == nil {
		return ""
	}
	return *s.text
}

const masked = "******"

// String returns "******".
func (s Secret) String() string { return masked }

// GoString returns "******".
func (s Secret) GoString() string { return masked }

// Format writes "******", whatever the verb.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(masked)) }

// MarshalText returns "******". JSON and YAML use it, too.
func (s Secret) MarshalText() ([]byte, error) { return []byte(masked), nil }

// howToMakeSecret is the advice about refused secrets.
const howToMakeSecret = "make one with: openssl rand -hex 32"

// howToMake is the advice about a refused secret at a path.
func howToMake(at string) string {
	if strings.HasPrefix(at, "webhooks/") {
		return howToMakeHookSecret
	}
	return howToMakeSecret
}

// secretFault returns what is wrong with a secret, or "". least is how many bytes it must have; 0 for any. make says how to make a better
// one. The answer contains nothing of the secret.
func secretFault(text string, least int, make string) string {
	switch {
	case text == "":
		return "is empty: " + make
	case strings.Contains(text, "-----BEGIN"), strings.Contains(text, `"kty"`):
		return "looks like a key of a key pair, which is no shared secret: " +
			"a public key goes into a file named by public_key_files, a private one stays with the issuer"
	case isExample(text):
		return "is an example that everybody knows: " + make
	case strings.Count(text, text[:1]) == len(text):
		return "is one character over and over: " + make
	case len(text) < least:
		return fmt.Sprintf("has %d bytes and needs %d, so that nobody can guess it: %s "+
			"(or set allow_short_secret: true for as long as it cannot be changed)", len(text), least, make)
	}
	return ""
}

// encodingFault returns what an editor has put around the text of a file with a secret, or "".
func encodingFault(content []byte) string {
	utf16 := bytes.HasPrefix(content, []byte("\xff\xfe")) || bytes.HasPrefix(content, []byte("\xfe\xff"))
	switch {
	case bytes.HasPrefix(content, []byte("\ufeff")):
		return "begins with a byte order mark, which would be part of the secret: save it as UTF-8 without BOM"
	case utf16 && bytes.Contains(content, []byte{0}): // as PowerShell's > writes
		return "is a text in UTF-16, which has other bytes than the secret: save it as UTF-8 without BOM"
	}
	return ""
}

// isExample reports whether a secret is one of the examples, in any case, with any punctuation, and with any digits behind it.
func isExample(text string) bool {
	plain := strings.Map(func(r rune) rune {
		if unicode.IsLetter(r) || unicode.IsDigit(r) {
			return unicode.ToLower(r)
		}
		return -1
	}, text)
	return examples[plain] || examples[strings.TrimRight(plain, "0123456789")]
}

// examples are secrets from documentation and default settings, in lower case and without punctuation. Software that
// started with such a secret has been taken over with it (CVE-2020-11878: docker-jitsi-meet).
var examples = map[string]bool{
	// anybody's
	"changeme": true, "changeit": true, "changethis": true, "replaceme": true, "insertsecrethere": true,
	"secret": true, "mysecret": true, "yoursecret": true, "thesecret": true, "topsecret": true, "supersecret": true,
	"yoursecretkey": true, "mysecretkey": true, "secretkey": true, "secrethere": true, "yoursecrethere": true,
	"password": true, "passw0rd": true, "test": true, "example": true, "examplesecret": true,
	"jwtsecret": true, "jwtsecrethere": true, "componentsecret": true, "sharedsecret": true,
	// Jitsi's handbook and packages
	"exampleappsecret": true, "yourappsecret": true, "appsecret": true, "focussecret": true,
	// docker-jitsi-meet
	"myappsecret": true, "myjitsiappsecret": true, "s3cr37": true, "s3cret": true,
	// mirotalk
	"mirotalksfujwtsecret": true, "mirotalksfudefaultsecret": true, "mirotalkjwtsecret": true,
	"mirotalkdefaultsecret": true, "mirotalkwebdefaultsecret": true,
	// README.md here
	"0b9e6d3c5a7f1842e0d4b6a89c37f512": true, "7d2a90c4e8b15f63d70c91ae24f86b35": true,
	// standardwebhooks.com
	"whsecmfkq9r8gkyqrtwjupd8ilpzio2lalasw": true,
	// jwt.io
	"your256bitsecret": true, "your384bitsecret": true, "your512bitsecret": true,
	"astringsecretatleast256bitslong": true,
}

// secret returns the secret that a path was set to.
func (l *loader) secret(at, text string, least int) Secret {
	if by := l.place(at); by.file != "" {
		by.source, _, _ = strings.Cut(by.source, ":")
		by.line = 0
		l.secretIn[by.file] = by
	}
	if fault := secretFault(text, least, howToMake(at)); fault != "" {
		l.fault(at, "%s", fault)
	}
	return NewSecret(text)
}

// credential returns the path of systemd's credential with the name of a file, or the name if there is none or an empty one. A unit with
// LoadCredential= (systemd.exec(5)) can so use files that its user cannot read, under names that also count for commands outside of it.
func (l *loader) credential(name string) string {
	if l.credentials == "" || name == "" || name != filepath.Base(name) {
		return name
	}
	path := filepath.Join(l.credentials, name)
	if stat, err := os.Stat(path); err != nil || stat.Size() == 0 {
		return name // an empty one is the unit's SetCredential=, for when there is no such file
	}
	return path
}

// secretFile returns the secret in the file that a path names.
func (l *loader) secretFile(at, name string, least int) Secret {
	content, file, ok := l.readNamed(at, l.credential(name), maxSecret)
	if !ok {
		return Secret{}
	}
	text := strings.TrimSuffix(strings.TrimSuffix(string(content), "\n"), "\r")
	if fault := encodingFault(content); fault != "" {
		l.fault(at, "%s", fault)
	} else if fault := secretFault(text, least, howToMake(at)); fault != "" {
		l.fault(at, "%s", fault)
	} else if strings.TrimSpace(text) != text {
		l.warn(at, "begins or ends with white space, which counts as part of the secret")
	}
	if worldReadable(file) {
		l.warn(at, readableSecret)
	}
	return NewSecret(text)
}

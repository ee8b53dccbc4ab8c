// Package passhash keeps passwords as hashes only: argon2id in PHC form, which it makes, and bcrypt, which it reads as well, because
// htpasswd and most web frameworks write it.
//
// A hash comes from a file that people edit, so it is bounded: one that is too cheap protects no password, and one that is too costly
// would let anybody who tries to log in use up the memory and the processor of the machine.
package passhash

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"golang.org/x/crypto/argon2"
	"golang.org/x/crypto/bcrypt"
	"golang.org/x/text/secure/precis"
)

// MaxPassword is the limit of a password in bytes.
const MaxPassword = 1024

// Hash is the hash of one password. The zero Hash is that of none. It may be used by several goroutines at once.
type Hash struct {
	text  string
	argon argon // memory is 0 if it is bcrypt
}

// argon is an argon2id hash (RFC 9106).
type argon struct {
	memory, passes uint32 // KiB; the RFC's m and t
	lanes          uint8  // the RFC's p
	salt, sum      []byte
}

// What an argon2id hash may cost. OWASP's Password Storage Cheat Sheet names minima of equal strength, from 46 MiB in one pass to 7 MiB
// in five; the last is the one with the least memory, and with the least product of both.
const (
	minMemory, maxMemory = 7 << 10, 256 << 10 // KiB
	maxPasses, maxLanes  = 16, 16
	minWork              = 5 * minMemory
	minSalt, minSum      = 8, 16 // RFC 9106 §3.1, and 128 bits
	maxSalt, maxSum      = 64, 64
)

// What a bcrypt hash may cost: each step doubles its time. 10 is OWASP's minimum.
const minCost, maxCost = 10, 15

// bcryptMemory is what bcrypt takes in bytes.
const bcryptMemory = 8 << 10

// Errors of Parse quote nothing: somebody may have written a password in the place of its hash.
var (
	errForm = errors.New("is no argon2id hash ($argon2id$v=19$m=…,t=…,p=…$salt$hash) and no bcrypt hash ($2b$…): usher user hash prints one")
	errWeak = errors.New("is an argon2id hash that is found too quickly: use m=19456,t=2,p=1 or more (memory in KiB, passes, lanes)")
	errCost = fmt.Errorf("is an argon2id hash that takes too much: m=%d (KiB), t=%d and p=%d are the most", maxMemory, maxPasses, maxLanes)
)

// Parse reads a hash in PHC form ($argon2id$v=19$m=…,t=…,p=…$salt$hash), or one of bcrypt ($2a$, $2b$, $2y$). The error says what is
// wrong, as the end of a sentence, and quotes nothing of the text.
func Parse(text string) (Hash, error) {
	switch {
	case strings.HasPrefix(text, "$argon2id$"):
		a, err := parseArgon(text)
		if err != nil {
			return Hash{}, err
		}
		return Hash{text: text, argon: a}, nil
	case strings.HasPrefix(text, "$2a$"), strings.HasPrefix(text, "$2b$"), strings.HasPrefix(text, "$2y$"):
		if err := checkBcrypt(text); err != nil {
			return Hash{}, err
		}
		return Hash{text: text}, nil
	}
	for _, weak := range []string{"$argon2i$", "$argon2d$", "$scrypt$", "$pbkdf2", "$1$", "$5$", "$6$", "$y$", "$apr1$", "{"} {
		if strings.HasPrefix(text, weak) {
			return Hash{}, errors.New("is a hash of a kind that usher does not know: it takes argon2id and bcrypt; usher user hash prints a new one")
		}
	}
	return Hash{}, errForm
}

// parseArgon reads the PHC form: https://github.com/P-H-C/phc-string-format, which allows one spelling only of each hash.
func parseArgon(text string) (argon, error) {
	parts := strings.Split(text, "$")
	if len(parts) != 6 {
		return argon{}, errForm
	}
	if parts[2] != "v=19" { // RFC 9106's version; the older one, v=16, is weaker, and Go cannot do it
		return argon{}, errors.New("is an argon2id hash of another version than 19: usher user hash prints a new one")
	}
	costs := strings.Split(parts[3], ",")
	if len(costs) != 3 {
		return argon{}, errForm
	}
	var number [3]uint32
	for i, name := range []string{"m=", "t=", "p="} {
		digits, named := strings.CutPrefix(costs[i], name)
		n, err := strconv.ParseUint(digits, 10, 32)
		switch {
		case errors.Is(err, strconv.ErrRange):
			return argon{}, errCost
		case err != nil || !named || digits != strconv.FormatUint(n, 10): // a plus sign, or zeros before it
			return argon{}, errForm
		}
		number[i] = uint32(n)
	}
	if number[0] > maxMemory || number[1] > maxPasses || number[2] > maxLanes {
		return argon{}, errCost
	}
	salt, saltErr := decode(parts[4], minSalt, maxSalt)
	sum, sumErr := decode(parts[5], minSum, maxSum)
	if err := errors.Join(saltErr, sumErr); err != nil {
		return argon{}, errForm
	}
	if number[0] < minMemory || number[0]*number[1] < minWork || number[2] == 0 { // passes, too, are at least 1 then
		return argon{}, errWeak
	}
	return argon{memory: number[0], passes: number[1], lanes: uint8(number[2]), salt: salt, sum: sum}, nil
}

// decode reads base64 as the PHC form has it: without padding, and in one spelling only.
func decode(text string, least, most int) ([]byte, error) {
	if strings.ContainsAny(text, "\r\n") { // which encoding/base64 skips
		return nil, errForm
	}
	b, err := base64.RawStdEncoding.Strict().DecodeString(text)
	if err != nil || len(b) < least || len(b) > most {
		return nil, errForm
	}
	return b, nil
}

// bcryptDigits are those of bcrypt's own base64.
const bcryptDigits = "./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"

// checkBcrypt returns an error if a text is no bcrypt hash: $2b$, two digits of cost, $, 22 digits of salt and 31 of hash.
func checkBcrypt(text string) error {
	cost, err := bcrypt.Cost([]byte(text))
	if len(text) != 60 || err != nil || text[6] != '$' || strings.Trim(text[7:], bcryptDigits) != "" {
		return errForm
	}
	if cost < minCost || cost > maxCost {
		return fmt.Errorf("is a bcrypt hash of cost %d: it must be between %d and %d", cost, minCost, maxCost)
	}
	return nil
}

// What new hashes cost: OWASP's first choice of those that take little memory.
const newMemory, newPasses, newLanes = 19 << 10, 2, 1

// New makes a hash of a password: argon2id with 19 MiB and two passes. It refuses a password that is empty, longer than [MaxPassword], or
// not UTF-8; the error says what is wrong as the end of a sentence.
func New(password string) (Hash, error) {
	salt := make([]byte, 16)
	if _, err := rand.Read(salt); err != nil {
		return Hash{}, err
	}
	return salted(password, salt)
}

// Derive makes the same hash each time for the same password and name. It is for passwords that stand in the environment in plain, where
// each start makes the hash anew: what hangs on the hash, such as sessions, outlives that. Such a hash must not be written anywhere,
// because its salt is no secret and no surprise. Errors are those of [New].
func Derive(password, name string) (Hash, error) {
	salt := sha256.Sum256([]byte("usher: salt of a password in the environment\x00" + name))
	return salted(password, salt[:16])
}

func salted(password string, salt []byte) (Hash, error) {
	switch {
	case password == "":
		return Hash{}, errors.New("is empty")
	case len(password) > MaxPassword:
		return Hash{}, fmt.Errorf("is longer than %d bytes", MaxPassword)
	case !utf8.ValidString(password):
		return Hash{}, errors.New("is not UTF-8")
	}
	a := argon{memory: newMemory, passes: newPasses, lanes: newLanes, salt: salt}
	a.sum = argon2.IDKey(prepared(password), salt, a.passes, a.memory, a.lanes, 32)
	base64 := base64.RawStdEncoding
	text := fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, a.memory, a.passes, a.lanes,
		base64.EncodeToString(salt), base64.EncodeToString(a.sum))
	return Hash{text: text, argon: a}, nil
}

// prepared returns a password as it is hashed: as PRECIS has it (RFC 8265 §4), so that one keyboard's ä is the other's. A password that
// PRECIS refuses, such as one with a control character, is hashed as it is.
func prepared(password string) []byte {
	if p, err := precis.OpaqueString.String(password); err == nil {
		password = p
	}
	return []byte(password)
}

// Matches reports whether the hash is that of a password. It takes as long as the hash costs, see [Hash.Memory], unless the password is
// one that [New] refuses. Of bcrypt only the first 72 bytes of a password count.
func (h Hash) Matches(password string) bool {
	if h.text == "" || password == "" || len(password) > MaxPassword || !utf8.ValidString(password) {
		return false
	}
	if h.argon.memory == 0 { // a NUL ends what bcrypt reads, so that "a\x00a" would be "a"
		return !strings.Contains(password, "\x00") && bcrypt.CompareHashAndPassword([]byte(h.text), prepared(password)) == nil
	}
	a := h.argon
	sum := argon2.IDKey(prepared(password), a.salt, a.passes, a.memory, a.lanes, uint32(len(a.sum)))
	return subtle.ConstantTimeCompare(sum, a.sum) == 1
}

// Memory returns how many bytes Matches takes for as long as it runs.
func (h Hash) Memory() int64 {
	if h.argon.memory == 0 {
		return bcryptMemory
	}
	return int64(h.argon.memory) << 10
}

// String returns the hash as [Parse] reads it; "" for the zero Hash. It is no password, but it helps to find one: keep it out of logs.
func (h Hash) String() string { return h.text }

package account

import (
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"go.uber.org/zap"
	"golang.org/x/text/cases"
	"golang.org/x/text/secure/precis"
	"golang.org/x/text/unicode/norm"
	"golang.org/x/time/rate"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/pkg/passhash"
	"github.com/xmpp-usher/usher/pkg/serve"
)

// Options are what a [Directory] needs.
type Options struct {
	// Accounts returns the accounts as they are now: no two have one name, see [Canonical]. What it has returned does not change any more.
	Accounts func() []Account
	// Service is asked where no account has the name; nil for none.
	Service *Service
	// Closed reports whether nobody may log in now, and no session of an account or of the service counts; nil for never.
	Closed func() bool
	// Memory is how much hashing takes at once, in bytes; 0 for 64 MiB. A hash that takes more than this is computed alone.
	Memory int64
	Now    func() time.Time // nil for time.Now
	Log    *zap.Logger      // nil for none
}

// Directory is all who can log in with a password. It may be used by several goroutines at once.
type Directory struct {
	accounts func() []Account
	known    atomic.Pointer[index]
	service  *Service
	closed   func() bool
	now      func() time.Time
	log      *zap.Logger
	limits   *limits
	hashing  *gate
	asking   *gate

	strangers *gate // before hashing, for devices that are not known
	rest      func(took time.Duration) time.Duration
	complains *rate.Limiter // of lines in the log about the service
	secret    [32]byte      // chooses which account's work a name takes that is none's
	matches   func(h passhash.Hash, password string) bool
}

const defaultMemory = 64 << 20

// The lines in the log about a service that cannot be asked: one in each interval, and some at once.
const complainEvery, complainAtOnce = 10 * time.Second, 5

// maxAsking is how many questions the user service gets at once.
const maxAsking = 16

// New returns the Directory. It starts nothing and asks nobody.
func New(o Options) *Directory {
	d := &Directory{
		accounts: o.Accounts, service: o.Service, closed: o.Closed, now: o.Now, log: o.Log,
		limits: newLimits(), hashing: newHashing(cmp.Or(o.Memory, defaultMemory)), asking: newGate(maxAsking, 1),
		strangers: newGate(hashesAtOnce(), 1), rest: restAfter,
		matches: passhash.Hash.Matches, complains: rate.NewLimiter(rate.Every(complainEvery), complainAtOnce),
	}
	if d.accounts == nil {
		d.accounts = func() []Account { return nil }
	}
	if d.closed == nil {
		d.closed = func() bool { return false }
	}
	if d.now == nil {
		d.now = time.Now
	}
	if d.log == nil {
		d.log = zap.NewNop()
	}
	if _, err := rand.Read(d.secret[:]); err != nil {
		panic(err) // it never fails (crypto/rand)
	}
	return d
}

// Attempt is an attempt to log in.
type Attempt struct {
	Name, Password string
	From           netip.Addr
	// Device is what the device presents of [Directory.Device]; "" for nothing.
	Device string
}

// claimed is what a name stands for.
type claimed struct {
	key     key      // of the limits
	name    string   // canonical
	account *Account // nil if it is none's
	ask     string   // the name as the user service gets it; "" if it is not asked
	hash    passhash.Hash
}

// Login returns the person who logs in. The error is ErrRefused, a *[TooManyError], ErrBusy, ErrUnavailable, or that of the context.
// ErrRefused counts as a failure, and ErrUnavailable if the user service may have meant a no.
func (d *Directory) Login(ctx context.Context, a Attempt) (Person, error) {
	if a.Password == "" || len(a.Password) > passhash.MaxPassword || !utf8.ValidString(a.Password) || len(a.Name) > maxName {
		return Person{}, ErrRefused // no name and no password can be like this, so nothing was tried
	}
	if d.closed() {
		return Person{}, ErrUnavailable
	}
	who := d.claim(a.Name)
	device := d.device(who, a.Device)
	t, wait := d.limits.begin(attempt{account: who.key, network: serve.Network(a.From), device: device}, d.now())
	if wait > 0 {
		return Person{}, &TooManyError{After: wait}
	}
	defer func() { t.end(dropped, d.now()) }() // has no effect unless the password was not checked
	p, why, err := d.check(ctx, who, a.Password, device != nil)
	switch {
	case err == nil:
		t.end(succeeded, d.now())
	case errors.Is(err, ErrRefused):
		d.refused(who, a.From, why, t.end(failed, d.now()))
	case errors.Is(err, errDenied):
		d.refused(who, a.From, why, t.end(failed, d.now()))
		err = ErrUnavailable
	}
	return p, err
}

// refused logs a login that failed. It says no name that is no account's: it may be a password in the wrong field.
func (d *Directory) refused(who claimed, from netip.Addr, why string, next time.Duration) {
	fields := []zap.Field{zap.String("why", why), zap.String("remote", from.String()), zap.Duration("next_after", next)}
	if who.account != nil {
		fields = append(fields, zap.String("account", who.name))
	}
	d.log.Info("login refused", fields...)
}

// claim returns what a name stands for. It takes the same work whether there is such an account or not.
func (d *Directory) claim(typed string) claimed {
	name, err := Canonical(typed)
	who := claimed{name: name, key: nameKey(typed, name)}
	all := d.index()
	if err == nil {
		who.account = all.named[name]
	}
	switch {
	case who.account != nil:
		who.hash = who.account.Hash
	case d.service != nil:
		// The service decides itself about case. Spaces, which names of accounts cannot have, are for it to know.
		who.ask, _ = precis.OpaqueString.String(strings.TrimSpace(typed))
	}
	if who.account == nil && who.ask == "" {
		who.hash = d.decoy(all.list, who.key)
	}
	return who
}

// index is a list of accounts, and each by its canonical name.
type index struct {
	list  []Account
	named map[string]*Account
}

// index returns the accounts as they are now. Names are prepared once for each list: attempts that are not even heard must cost little.
func (d *Directory) index() *index {
	list := d.accounts()
	is := d.known.Load()
	if is != nil && len(is.list) == len(list) && (len(list) == 0 || &is.list[0] == &list[0]) {
		return is
	}
	is = &index{list: list, named: make(map[string]*Account, len(list))}
	for i := range list {
		if name, err := Canonical(list[i].Name); err == nil {
			is.named[name] = &list[i]
		}
	}
	d.known.Store(is)
	return is
}

// nameKey returns under which key the failures of a name are counted: the same for all its spellings.
func nameKey(typed, canonical string) key {
	if canonical == "" {
		canonical = " " + cases.Fold().String(norm.NFKC.String(strings.TrimSpace(typed)))
	}
	return sha256.Sum256([]byte(canonical))
}

// decoy returns the hash on which a password is tried for a name that is no account's: some account's, always the same one for a name, so
// that such names take as long as others do.
func (d *Directory) decoy(all []Account, of key) passhash.Hash {
	if len(all) == 0 {
		return nobody()
	}
	mac := hmac.New(sha256.New, d.secret[:])
	mac.Write(of[:])
	return all[binary.BigEndian.Uint64(mac.Sum(nil))%uint64(len(all))].Hash
}

// nobody returns the hash of a password that nobody has.
var nobody = sync.OnceValue(func() passhash.Hash {
	h, err := passhash.New(rand.Text())
	if err != nil {
		panic(err) // the password is a good one
	}
	return h
})

// check tries a password, and says for the log why it was refused.
func (d *Directory) check(ctx context.Context, who claimed, password string, known bool) (p Person, why string, err error) {
	if who.ask != "" {
		return d.askService(ctx, who.ask, password, known)
	}
	end, err := d.stranger(ctx, known)
	if err != nil {
		return Person{}, "", err
	}
	leave, err := d.hashing.enter(ctx, who.hash.Memory(), known)
	if err != nil {
		end(0)
		return Person{}, "", err
	}
	began := time.Now()
	right := d.matches(who.hash, password)
	leave()
	if right {
		end(0)
	} else {
		end(d.rest(time.Since(began)))
	}
	switch {
	case who.account == nil:
		return Person{}, "no such account", ErrRefused
	case !right:
		return Person{}, "wrong password", ErrRefused
	case who.account.Disabled:
		return Person{}, "the account is disabled", ErrRefused
	}
	return who.account.person(who.name), "", nil
}

// Open reports whether anybody can log in with a password.
func (d *Directory) Open() bool { return !d.closed() && (d.service != nil || len(d.accounts()) > 0) }

// Current returns a person who has logged in, as the account is now. It reports false if the account is gone, disabled or another
// [Person.Version], or if the user service that knew the person is asked no more. People of providers are returned as given.
func (d *Directory) Current(p Person) (Person, bool) {
	switch {
	case d.closed() && (p.from(local) || p.from(remote)):
		return Person{}, false
	case p.from(local):
		who := d.claim(p.Name)
		if who.account == nil || who.account.Disabled {
			return Person{}, false
		}
		now := who.account.person(who.name)
		return now, now.ID == p.ID && now.Version == p.Version
	case p.from(remote):
		return p, d.service != nil && p.Version == d.service.version
	}
	return p, true
}

// Allowed reports whether a person may open a room now. People of the user service need its yes to this room each time; the error is then
// ErrUnavailable, ErrBusy or that of the context.
func (d *Directory) Allowed(ctx context.Context, p Person, room auth.Room) (bool, error) {
	if !p.May(room) || !p.from(remote) {
		return p.May(room), nil
	}
	if d.service == nil {
		return false, nil
	}
	leave, err := d.asking.enter(ctx, 1, true)
	if err != nil {
		return false, err
	}
	defer leave()
	ok, err := d.service.roomAllowed(ctx, p.Name, room)
	if err != nil {
		return false, d.unavailable(ctx, err)
	}
	return ok, nil
}

// Device returns what the person's device keeps after a login, in a cookie that lasts long, and presents with the next one; "" for people
// of providers. It opens nothing: a device that has it is not kept out by the failures of others. A new password makes it worthless; a
// restart does not.
func (d *Directory) Device(p Person) string {
	key := d.deviceKey(d.claimOf(p))
	if key == nil {
		return ""
	}
	id := rand.Text()
	return id + "." + seal(key, id)
}

// claimOf returns what the name of a person stands for now; nothing for people of providers.
func (d *Directory) claimOf(p Person) claimed {
	if p.from(local) || p.from(remote) {
		return d.claim(p.Name)
	}
	return claimed{}
}

// deviceKey returns the key that seals devices of a person; nil if there is none. Only usher knows it, and each usher with the same
// configuration does.
func (d *Directory) deviceKey(who claimed) []byte {
	secret := ""
	switch {
	case who.account != nil:
		secret = who.account.Hash.String()
	case who.ask != "":
		secret = d.service.secret
	}
	if secret == "" {
		return nil
	}
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte("usher: a device that is known\x00"))
	mac.Write(who.key[:])
	return mac.Sum(nil)
}

func seal(key []byte, id string) string {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(id))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// device returns the key of the limits of a device on which somebody has logged in with this name before; nil if it is none.
func (d *Directory) device(who claimed, presented string) *key {
	id, sealed, _ := strings.Cut(presented, ".")
	of := d.deviceKey(who)
	if of == nil || len(presented) > 100 || !hmac.Equal([]byte(seal(of, id)), []byte(sealed)) {
		return nil
	}
	k := key(sha256.Sum256(append(who.key[:], id...)))
	return &k
}

package account

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/pkg/passhash"
)

// deadline is how long a test waits for what must happen.
const deadline = time.Minute

// office is a Directory under test.
type office struct {
	*Directory
	testing.TB
	accounts []Account
	clock    time.Time
	hashed   atomic.Int64
	log      *observer.ObservedLogs
	nets     int
}

// passwords of the accounts of newOffice.
var passwords = map[string]string{"alice": "p:a|ss<w>ürd", "straße": "Ключ от двери", "off": "correct horse", "bob@example.com": "battery staple"}

var hashes = sync.OnceValue(func() map[string]passhash.Hash {
	all := map[string]passhash.Hash{}
	for name, password := range passwords {
		h, err := passhash.New(password)
		if err != nil {
			panic(err)
		}
		all[name] = h
	}
	return all
})

func newOffice(t testing.TB, service *Service) *office {
	h := hashes()
	o := &office{TB: t, clock: start, accounts: []Account{
		{Name: "Alice", Display: "Alice Example", Email: "alice@example.com", Hash: h["alice"], Rooms: []string{"class-*", "[acme]*"}, Affiliation: auth.Owner, Groups: []string{"teachers"}},
		{Name: "straße", Hash: h["straße"], Rooms: []string{"*"}, Affiliation: auth.Admin},
		{Name: "off", Hash: h["off"], Rooms: []string{"*"}, Affiliation: auth.Owner, Disabled: true},
		{Name: "bob@example.com", Hash: h["bob@example.com"]},
	}}
	o.open(service)
	return o
}

// open starts the Directory, as a restart does.
func (o *office) open(service *Service) {
	core, log := observer.New(zapcore.DebugLevel)
	o.log = log
	o.Directory = New(Options{
		Accounts: func() []Account { return o.accounts }, Service: service,
		Now: func() time.Time { return o.clock }, Log: zap.New(core),
	})
	o.Directory.matches = func(h passhash.Hash, password string) bool {
		o.hashed.Add(1)
		return h.Matches(password)
	}
}

// quick makes hashing free of cost: each account's password is its own hash.
func (o *office) quick() *office {
	o.Directory.matches = func(h passhash.Hash, password string) bool {
		o.hashed.Add(1)
		return h.String() == password
	}
	return o
}

// anywhere returns an address in a network that nobody has tried from.
func (o *office) anywhere() netip.Addr {
	o.nets++
	return networkOf(o.nets).Addr()
}

func (o *office) login(name, password string) (Person, error) {
	return o.Login(o.Context(), Attempt{Name: name, Password: password, From: o.anywhere()})
}

// quiet fails the test if the log says one of these.
func (o *office) quiet(secrets ...string) {
	o.Helper()
	for _, line := range o.log.All() {
		text := fmt.Sprint(line.Message, line.ContextMap())
		for _, s := range secrets {
			if strings.Contains(text, s) {
				o.Errorf("the log says %q: %s", s, text)
			}
		}
	}
}

// TestLogin logs in with names and passwords of all sorts.
func TestLogin(t *testing.T) {
	o := newOffice(t, nil)
	for _, tt := range []struct {
		name, password string
		want           string // id; "" if refused
	}{
		{"alice", passwords["alice"], "account:alice"},
		{"ALICE", passwords["alice"], "account:alice"},
		{"Ａｌｉｃｅ", passwords["alice"], "account:alice"}, // full width
		{"alice", "p:a|ss<w>u\u0308rd", "account:alice"},
		{"alice ", passwords["alice"], ""},
		{"аlice", passwords["alice"], ""}, // Cyrillic а
		{"alıce", passwords["alice"], ""}, // dotless i
		{"alice\u200b", passwords["alice"], ""},
		{"alice", "P:a|ss<w>ürd", ""},
		{"alice", "p:a|ss&lt;w>ürd", ""},
		{"alice", passwords["alice"] + " ", ""},
		{"alice", "", ""},
		{"alice", hashes()["alice"].String(), ""},
		{"alice", "\xff" + passwords["alice"], ""},
		{"straße", passwords["straße"], "account:straße"},
		{"Straße", passwords["straße"], "account:straße"},
		{"STRASSE", passwords["straße"], ""},
		{"bob@example.com", passwords["bob@example.com"], "account:bob@example.com"},
		{"bob", passwords["bob@example.com"], ""},
		{"off", passwords["off"], ""},
		{"", passwords["alice"], ""},
		{"nobody", passwords["alice"], ""},
		{strings.Repeat("a", 1000), passwords["alice"], ""},
		{"alice", strings.Repeat("x", 2000), ""},
	} {
		p, err := o.login(tt.name, tt.password)
		switch {
		case tt.want == "" && (err != ErrRefused || !reflect.DeepEqual(p, Person{})):
			t.Errorf("%q, %q: %+v, %v", tt.name, tt.password, p, err)
		case tt.want != "" && (err != nil || p.ID != tt.want):
			t.Errorf("%q, %q: %+v, %v", tt.name, tt.password, p, err)
		}
		o.clock = o.clock.Add(time.Hour) // the limits are for other tests
	}
	o.quiet("p:a", "ürd", "horse", "Ключ", "nobody", "$argon2id", "STRASSE")
	if o.log.FilterMessage("login refused").FilterField(zap.String("account", "off")).Len() != 1 {
		t.Error("the log does not say that a disabled account was tried")
	}
}

// TestPerson has the fields of the account.
func TestPerson(t *testing.T) {
	o := newOffice(t, nil)
	p, err := o.login("alice", passwords["alice"])
	if err != nil {
		t.Fatal(err)
	}
	want := Person{
		ID: "account:alice", Name: "alice", Display: "Alice Example", Email: "alice@example.com",
		Rooms: []string{"class-*", "[acme]*"}, Affiliation: auth.Owner, Groups: []string{"teachers"}, Version: p.Version,
	}
	if !reflect.DeepEqual(p, want) || p.Version == "" || strings.Contains(hashes()["alice"].String(), p.Version) {
		t.Errorf("%+v", p)
	}
	for name, may := range map[string]bool{"class-1": true, "class": false, "other": false, "[acme]any": true, "[other]class-1": false} {
		room, err := auth.ParseRoomName(name)
		if err != nil || p.May(room) != may {
			t.Errorf("%s: %v, %v", name, !may, err)
		}
		if ok, err := o.Allowed(t.Context(), p, room); ok != may || err != nil {
			t.Errorf("%s: %v, %v", name, ok, err)
		}
	}
	if bob, err := o.login("bob@example.com", passwords["bob@example.com"]); err != nil || bob.Affiliation != auth.Member || bob.May(auth.Room{Name: "x"}) {
		t.Errorf("an account that says nothing: %+v, %v", bob, err)
	}
}

// TestWork counts the hashes that a login takes: a name that is none's takes as many as others, and as costly ones.
func TestWork(t *testing.T) {
	o := newOffice(t, nil)
	var tried []passhash.Hash
	o.Directory.matches = func(h passhash.Hash, _ string) bool {
		tried = append(tried, h)
		return false
	}
	chosen := map[string]bool{}
	for i, name := range []string{"alice", "off", "nobody", "no name at all", "аlice", "bob", "nobody"} {
		if _, err := o.login(name, "wrong"); err != ErrRefused || err.Error() != "wrong name or password" {
			t.Errorf("%s: %v", name, err)
		}
		if len(tried) != i+1 {
			t.Fatalf("%s: %d hashes", name, len(tried)-i)
		}
	}
	if tried[2].String() != tried[6].String() {
		t.Error("one name takes the work of two accounts")
	}
	for i := range 100 {
		if _, err := o.login(fmt.Sprint("nobody", i), "wrong"); err != ErrRefused {
			t.Fatal(err)
		}
		chosen[tried[len(tried)-1].String()] = true
	}
	if len(chosen) != len(o.accounts) {
		t.Errorf("names of nobody take the work of %d accounts only", len(chosen))
	}
	o.accounts, tried = nil, nil
	if _, err := o.login("nobody", "wrong"); err != ErrRefused || len(tried) != 1 || tried[0].Memory() != 19<<20 {
		t.Errorf("without any account: %v, %v", tried, err)
	}
}

// TestDecoy lets nobody in with the password of the account that a name takes the work of.
func TestDecoy(t *testing.T) {
	o := newOffice(t, nil)
	o.accounts = o.accounts[:1]
	if p, err := o.login("nobody", passwords["alice"]); err != ErrRefused {
		t.Errorf("%+v, %v", p, err)
	}
}

// TestTooMany refuses without hashing, the same for names of accounts and others.
func TestTooMany(t *testing.T) {
	for _, name := range []string{"alice", "nobody", "not a name"} {
		o := newOffice(t, nil).quick()
		for range ofAccount.free {
			if _, err := o.login(name, "wrong"); err != ErrRefused {
				t.Fatalf("%s: %v", name, err)
			}
		}
		for _, password := range []string{"wrong", hashes()["alice"].String()} {
			_, err := o.login(strings.ToUpper(name), password)
			if many, is := errors.AsType[*TooManyError](err); !is || many.After != time.Second || err.Error() != "too many failed logins: try again in 1s" {
				t.Errorf("%s: %v", name, err)
			}
		}
		if n := int(o.hashed.Load()); n != ofAccount.free {
			t.Errorf("%s: %d hashes", name, n)
		}
		if _, err := o.login("bob@example.com", hashes()["bob@example.com"].String()); err != nil {
			t.Errorf("another account: %v", err)
		}
		o.clock = o.clock.Add(time.Second)
		if _, err := o.login(name, "wrong"); err != ErrRefused {
			t.Errorf("%s, after the delay: %v", name, err)
		}
	}
}

// TestNetwork refuses a network that tries many names: also one of 64 bits of IPv6. The neighbour is heard.
func TestNetwork(t *testing.T) {
	for _, tt := range []struct{ from, same, neighbour string }{
		{"192.0.2.1", "::ffff:192.0.2.1", "192.0.2.2"},
		{"2001:db8::1", "2001:db8::ffff:0:0:2%eth0", "2001:db8:0:1::1"},
	} {
		o := newOffice(t, nil).quick()
		try := func(name, from string) error {
			_, err := o.Login(t.Context(), Attempt{Name: name, Password: "wrong", From: netip.MustParseAddr(from)})
			return err
		}
		for i := range ofNetwork.free {
			if err := try(fmt.Sprint("name", i), tt.from); err != ErrRefused {
				t.Fatal(err)
			}
		}
		if _, is := errors.AsType[*TooManyError](try("alice", tt.same)); !is {
			t.Errorf("%s is heard", tt.same)
		}
		if err := try("alice", tt.neighbour); err != ErrRefused {
			t.Errorf("%s: %v", tt.neighbour, err)
		}
	}
}

// TestDevice lets somebody in on a device that is known although strangers try their password without end, from everywhere and from the
// same network.
func TestDevice(t *testing.T) {
	o := newOffice(t, nil).quick()
	right := hashes()["alice"].String()
	p, err := o.login("alice", right)
	if err != nil {
		t.Fatal(err)
	}
	home, from := o.Device(p), o.anywhere()
	if home == "" || home == o.Device(p) || strings.Contains(home, right) {
		t.Fatalf("device %q", home)
	}
	try := func(name, password, device string) error {
		_, err := o.Login(t.Context(), Attempt{Name: name, Password: password, From: from, Device: device})
		return err
	}
	for i := range 500 {
		_, err := o.login("alice", fmt.Sprint("guess", i))
		if _, is := errors.AsType[*TooManyError](err); !is && err != ErrRefused {
			t.Fatal(err)
		}
		try(fmt.Sprint("name", i), "guess", "")
	}
	refused := func(err error) bool {
		_, is := errors.AsType[*TooManyError](err)
		return is
	}
	if err := try("alice", right, ""); !refused(err) {
		t.Errorf("a device that is not known: %v", err)
	}
	if err := try("Alice", right, home); err != nil {
		t.Errorf("a known device: %v", err)
	}
	for _, forged := range []string{home + "x", "x" + home, strings.ToLower(home), ".", "." + strings.Split(home, ".")[1], strings.Repeat("a", 200), o.deviceOf("straße")} {
		if err := try("alice", right, forged); !refused(err) {
			t.Errorf("%q: %v", forged, err)
		}
	}
	// It is for that account only.
	if err := try("straße", "wrong", home); !refused(err) {
		t.Errorf("another account: %v", err)
	}
	// A restart forgets no device.
	o.open(nil)
	o.quick()
	for range ofAccount.free + 1 {
		o.login("alice", "guess")
	}
	if err := try("alice", right, home); err != nil {
		t.Errorf("after a restart: %v", err)
	}
	// Somebody at the device can try no more often than others, and that keeps no other device out.
	for range ofDevice.free {
		if err := try("alice", "wrong", home); err != ErrRefused {
			t.Fatal(err)
		}
	}
	if err := try("alice", right, home); !refused(err) {
		t.Errorf("a device with many failures: %v", err)
	}
	if err := try("alice", right, o.deviceOf("alice")); err != nil {
		t.Errorf("another known device: %v", err)
	}
	// A new password forgets all devices.
	o.accounts = slices.Clone(o.accounts)
	o.accounts[0].Hash = hashes()["off"]
	if err := try("alice", hashes()["off"].String(), o.Device(p)); err != nil {
		t.Errorf("a device of the new password: %v", err)
	}
	if err := try("alice", hashes()["off"].String(), home); !refused(err) {
		t.Errorf("a device of the old password: %v", err)
	}
	if d := o.Device(Person{ID: "keycloak:1234", Name: "alice"}); d != "" {
		t.Errorf("a provider's person has a device: %s", d)
	}
}

func (o *office) deviceOf(name string) string { return o.Device(Person{ID: local + name, Name: name}) }

// TestCurrent ends what an account's people have when it changes.
func TestCurrent(t *testing.T) {
	o := newOffice(t, nil).quick()
	p, err := o.login("alice", hashes()["alice"].String())
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		change func(a *Account)
		ends   bool
	}{
		"nothing":       {func(*Account) {}, false},
		"display":       {func(a *Account) { a.Display = "A." }, false},
		"email":         {func(a *Account) { a.Email = "" }, false},
		"case of name":  {func(a *Account) { a.Name = "ALICE" }, false},
		"name":          {func(a *Account) { a.Name = "alicia" }, true},
		"password":      {func(a *Account) { a.Hash = hashes()["off"] }, true},
		"disabled":      {func(a *Account) { a.Disabled = true }, true},
		"one room less": {func(a *Account) { a.Rooms = a.Rooms[:1] }, true},
		"one room more": {func(a *Account) { a.Rooms = append(slices.Clone(a.Rooms), "x") }, true},
		"affiliation":   {func(a *Account) { a.Affiliation = auth.Admin }, true},
		"groups":        {func(a *Account) { a.Groups = nil }, true},
	} {
		o := newOffice(t, nil)
		tt.change(&o.accounts[0])
		now, ok := o.Current(p)
		if ok == tt.ends || ok && (now.Display != o.accounts[0].Display || now.Email != o.accounts[0].Email || now.Version != p.Version) {
			t.Errorf("%s: %v, %+v", name, ok, now)
		}
	}
	for _, other := range []Person{{ID: "keycloak:alice", Name: "alice", Rooms: []string{"*"}}, {ID: ""}} {
		if now, ok := o.Current(other); !ok || !reflect.DeepEqual(now, other) {
			t.Errorf("%+v: %v", other, ok)
		}
	}
	for _, forged := range []Person{{ID: "account:alice", Name: "straße"}, {ID: "service:alice", Name: "alice"}, {ID: "account:", Name: ""}, {ID: "account:alice", Name: "alice"}} {
		if now, ok := o.Current(forged); ok {
			t.Errorf("%+v is %+v", forged, now)
		}
	}
}

// TestBusy holds the hashing of one login, and sees others wait, and be refused before they hash.
func TestBusy(t *testing.T) {
	o := newOffice(t, nil)
	o.Directory.hashing, o.Directory.strangers = newGate(40<<20, 1), newGate(2, 1) // two of 19 MiB
	o.Directory.rest = func(time.Duration) time.Duration { return 0 }
	held, release := make(chan string), make(chan struct{})
	var running, most, bytes atomic.Int64
	o.Directory.matches = func(h passhash.Hash, password string) bool {
		for now := running.Add(1); ; {
			if was := most.Load(); now <= was || most.CompareAndSwap(was, now) {
				break
			}
		}
		if bytes.Add(h.Memory()) > 40<<20 {
			t.Errorf("more memory than allowed")
		}
		held <- password
		<-release
		bytes.Add(-h.Memory())
		running.Add(-1)
		return password == "right"
	}
	p, known := Person{ID: "account:alice", Name: "alice"}, ""
	known = o.Device(p)
	results := make(chan error, 200)
	begin := func(i int, device string) {
		a := Attempt{Name: "alice", Password: "right", From: networkOf(i).Addr(), Device: device}
		if device == "" {
			a.Name, a.Password = fmt.Sprint("nobody", i), "wrong"
		}
		go func() {
			_, err := o.Login(context.Background(), a)
			results <- err
		}()
	}
	wait := func(n int64) {
		t.Helper()
		for end := time.Now().Add(deadline); o.hashing.waiting.Load()+o.strangers.waiting.Load() != n; time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("%d wait, want %d", o.hashing.waiting.Load()+o.strangers.waiting.Load(), n)
			}
		}
	}
	result := func(want error) {
		t.Helper()
		select {
		case err := <-results:
			if err != want {
				t.Fatalf("%v, want %v", err, want)
			}
		case <-time.After(deadline):
			t.Fatal("no result")
		}
	}
	begin(0, "")
	begin(1, "")
	<-held
	<-held
	for i := range maxWaiting {
		begin(2+i, "")
		wait(int64(i) + 1)
	}
	begin(100, "")
	result(ErrBusy)
	begin(101, known) // is heard
	wait(maxWaiting + 1)
	go func() {
		for range maxWaiting + 1 {
			<-held
		}
	}()
	close(release)
	succeeded := 0
	for range maxWaiting + 3 {
		switch err := <-results; err {
		case nil:
			succeeded++
		case ErrRefused:
		default:
			t.Error(err)
		}
	}
	if succeeded != 1 || most.Load() != 2 {
		t.Errorf("%d have logged in, %d hashed at once", succeeded, most.Load())
	}
	// What was busy is no failure: those of one name each were counted once.
	if n := len(o.limits.accounts.of); n != maxWaiting+2 {
		t.Errorf("%d names have failures, want %d", n, maxWaiting+2)
	}
}

// TestStrangersRest has a stranger fail, after which the next one of them waits for a while; a known device does not, and nobody does after a
// login that went well.
func TestStrangersRest(t *testing.T) {
	o := newOffice(t, nil).quick()
	o.Directory.strangers, o.Directory.rest = newGate(1, 1), func(time.Duration) time.Duration { return time.Hour }
	o.strangers.queue = 0
	right := o.accounts[0].Hash.String()
	p, err := o.login("alice", right)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := o.login("nobody", "wrong"); err != ErrRefused {
		t.Fatalf("after a right password: %v", err)
	}
	if _, err := o.login("alice", right); err != ErrBusy {
		t.Errorf("a stranger right after one who failed: %v", err)
	}
	if _, err := o.Login(t.Context(), Attempt{Name: "alice", Password: right, From: o.anywhere(), Device: o.Device(p)}); err != nil {
		t.Errorf("a known device: %v", err)
	}
}

// TestTooManyBeforeBusy has all strangers wait. Somebody comes with an account under attack: they are told of that, and how long it takes.
func TestTooManyBeforeBusy(t *testing.T) {
	o := newOffice(t, nil).quick()
	var rest time.Duration
	o.Directory.strangers, o.Directory.rest = newGate(1, 1), func(time.Duration) time.Duration { return rest }
	o.strangers.queue = 0
	for range ofAccount.free {
		if _, err := o.login("alice", "wrong"); err != ErrRefused {
			t.Fatal(err)
		}
	}
	rest = time.Hour
	if _, err := o.login("nobody", "wrong"); err != ErrRefused {
		t.Fatal(err)
	}
	if _, err := o.login("bob@example.com", hashes()["bob@example.com"].String()); err != ErrBusy {
		t.Errorf("another account: %v", err)
	}
	if _, err := o.login("alice", hashes()["alice"].String()); !errors.As(err, new(*TooManyError)) {
		t.Errorf("the account under attack: %v", err)
	}
}

// TestProcessors computes hashes that take no memory, too, on half of the processors only.
func TestProcessors(t *testing.T) {
	g := newHashing(defaultMemory)
	g.queue = 0
	for range max(1, runtime.GOMAXPROCS(0)/2) {
		if _, err := g.enter(t.Context(), 8<<10, false); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := g.enter(t.Context(), 8<<10, false); err != ErrBusy {
		t.Error(err)
	}
}

// TestGate lets a hash in that takes more than there is, but alone, and ends with the context of the caller.
func TestGate(t *testing.T) {
	g := newGate(100, 1)
	leave, err := g.enter(t.Context(), 1000, false)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := g.enter(ctx, 1, false); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	g.patient = time.Nanosecond
	if _, err := g.enter(t.Context(), 1, false); err != ErrBusy {
		t.Error(err)
	}
	leave()
	if leave, err = g.enter(t.Context(), 1, false); err != nil || g.waiting.Load() != 0 {
		t.Error(err)
	}
	leave()
	// A login of a caller that has gone counts for nothing.
	o := newOffice(t, nil)
	o.Directory.hashing = g
	g.places.TryAcquire(100)
	if _, err := o.Login(ctx, Attempt{Name: "alice", Password: "wrong", From: o.anywhere()}); !errors.Is(err, context.Canceled) || len(o.limits.accounts.of) != 0 {
		t.Error(err)
	}
}

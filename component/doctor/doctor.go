// Package doctor examines a running XMPP server the way usher will use it. It connects as the component, asks, makes a room and
// ends it. For each thing that must hold it reports whether it does, and which line of configuration mends it.
//
// All checks are in one table, checks. It is read from top to bottom, in the order in which the checks are made. A check that
// can say nothing because another one failed is skipped, so that one fault shows as one failure; all others are made.
package doctor

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"mellium.im/xmpp/jid"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/muc"
)

const (
	// patience is how long the server may take for one answer.
	patience = 5 * time.Second
	// limit is how long a whole examination may take, without Options.Starting, Options.Telling and Options.Watch.
	limit = time.Minute
	// debianChangelog is where Debian says what its package of Prosody mends.
	debianChangelog = "/usr/share/doc/prosody/changelog.Debian.gz"
)

// Options say what to examine. JIDs that are zero and lists that are empty leave out their checks.
type Options struct {
	// Server, Domain and Secret are those of component.Options.
	Server string
	Domain jid.JID
	Secret []byte
	// Services are the guarded MUC services, VHosts the configured virtual hosts.
	Services, VHosts []jid.JID
	// Lobby and Breakout are Jitsi's MUC services of that kind. Jicofo is the bare JID of the focus.
	Lobby, Breakout, Jicofo jid.JID
	// Module says that usher's module, mod_usher, keeps strangers out of open rooms; otherwise rooms are members-only for life.
	// Autostart says that usher switches the lobby on.
	Module, Autostart bool
	// ModuleVersion is the version of usher's module that comes with this usher, a number.
	ModuleVersion string
	// Shared says that several ushers share a store, so that one takes over from the other.
	Shared bool
	// EnforceRoles says that usher takes ownership back from owners that Jicofo made.
	EnforceRoles bool
	// Opening is how long Jicofo may take to open a room, 15 s if zero. Electing is how long Jicofo may take to make a newcomer an
	// owner, 3 s if zero: it does so at once, but in another thread than the one that answers questions.
	Opening, Electing time.Duration
	// Telling is how long usher's module may take to tell of all rooms, 30 s if zero.
	Telling time.Duration
	// Starting is how long Jicofo may take to come online, 20 s if zero.
	Starting time.Duration
	// Issuers sign the tokens that count, and Sources have their keys.
	Issuers []Issuer
	Sources []Source
	// Leeway is how far clocks may differ before valid tokens are refused. Less than five seconds counts as five, because the
	// server tells its time in whole seconds.
	Leeway time.Duration
	// Watch is how long to stay connected at the end, to see whether another component takes the connection.
	Watch time.Duration
	// Now is the clock; nil for the machine's.
	Now func() time.Time
	// Changelog is the file in which the distribution says what it has mended in the server's package. It counts only if the
	// server is on this machine. Empty means Debian's.
	Changelog string
}

// Issuer is a party that signs tokens.
type Issuer struct {
	// Name is what the report calls the issuer.
	Name string
	// Secrets are the lengths in bytes of its shared secrets, never the secrets themselves.
	Secrets []int
}

// Source is a place from which keys of an issuer come.
type Source struct {
	// Name is what the report calls the source.
	Name string
	// Check returns the keys of the source, and why others are left out.
	Check func(context.Context) (keys []auth.Key, skipped []error, err error)
	// Unlisted says that the source cannot list its keys, but returns each by its kid.
	Unlisted bool
}

// Status is the result of a check.
type Status string

// The statuses.
const (
	OK   Status = "ok"
	Warn Status = "warn" // usher works, with a drawback
	Fail Status = "fail"
	Skip Status = "skip" // not examined, because something else failed
)

// Check is the outcome of one check.
type Check struct {
	// Code names the check and never changes. Of is the subject, where a check has several: a domain, an issuer.
	Code string `json:"check"`
	Of   string `json:"of,omitempty"`

	Status Status `json:"status"`
	// Says is what the check found, in words. Mend is the line of configuration, or the command, that mends it. It is empty if all
	// is well or nothing is known.
	Says string `json:"says"`
	Mend string `json:"mend,omitempty"`
}

// Connects reports whether the server can be asked only if this check holds. If it failed, all checks that ask the server are
// skipped because of it.
func (c Check) Connects() bool {
	return slices.Contains([]string{"port", "handshake", "conflict", answers}, c.Code)
}

// Run makes all checks, and reports each at once. The error is ctx's if ctx ends before the examination does. In every case Run
// removes what it made on the server; what the server does not let it remove it reports. All goroutines that it started have
// ended when it returns.
func Run(ctx context.Context, o Options, report func(Check)) error {
	if o.Now == nil {
		o.Now = time.Now
	}
	o.Opening, o.Electing, o.Starting = cmp.Or(o.Opening, opening), cmp.Or(o.Electing, electing), cmp.Or(o.Starting, starting)
	o.Telling = cmp.Or(o.Telling, telling)
	o.Changelog = cmp.Or(o.Changelog, debianChangelog)
	x := newExamination(o)
	bounded, cancel := context.WithTimeout(ctx, limit+o.Starting+2*o.Telling+o.Watch)
	defer cancel()
	x.examine(bounded, func(c Check) {
		if ctx.Err() == nil {
			report(c)
		}
	})
	x.clean()
	if len(x.left) > 0 {
		report(Check{Code: "clean", Status: Warn, Mend: "restart Prosody, if they are still there",
			Says: "the connection ended, so these rooms of the doctor may be left: " + strings.Join(slices.Sorted(maps.Keys(x.left)), ", ")})
	}
	return ctx.Err()
}

func newExamination(o Options) *examination {
	x := &examination{
		o: o, focus: address(o.Domain, muc.Nick, muc.Resource), stranger: address(o.Domain, "stranger", "doctor"),
		rooms: make(map[string]jid.JID), opened: make(map[string]opened), left: make(map[string]jid.JID), blame: make(map[string]string),
	}
	x.owner = muc.Owner{JID: x.focus.Bare()}
	if o.Jicofo.Equal(jid.JID{}) {
		x.owner.Occupant = x.focus // as in the rooms that usher keeps itself
	}
	return x
}

// address returns a full JID under which the doctor acts.
func address(domain jid.JID, local, resource string) jid.JID {
	j, _ := jid.New(local, domain.Domainpart(), resource) // ASCII parts of a valid domain are always valid
	return j
}

package muc

import (
	"cmp"
	"context"
	"fmt"
	"html"
	"maps"
	"slices"
	"strings"
	"sync"

	"mellium.im/xmpp/jid"
)

// module is mod_usher on a domain of the service. It tells whatever has changed at the end of each step of the service, which is when
// the service's lock is released, or before it writes anything else.
type module struct {
	domain    string
	boot, n   int
	listening bool                 // usher has asked
	whole     bool                 // for everything
	snapshot  bool                 // is not complete
	known     map[string]*asTold   // by address
	todo      []string             // rooms that the snapshot has yet to tell
	makers    map[[2]string]string // by room and bare JID: who gave the affiliations
	loses     int                  // how many of the next tells are lost
	mute      bool                 // it answers nothing
}

// asTold is a room as usher was told.
type asTold struct {
	c        *chat
	settings string
	people   map[string]seat // by nick
	rights   map[string]string
	changed  int // number of the last tell of an affiliation
}

// stepping is the service's lock. When it is released, the module tells what has changed.
type stepping struct {
	sync.Mutex
	ends func()
}

func (m *stepping) Unlock() {
	if m.ends != nil {
		m.ends()
	}
	m.Mutex.Unlock()
}

// load has usher's module loaded on domains of the service, and a Told that listens to them until the function returned is called, which ends the
// connection. The Told hears what is read; with prompt that is at once.
func (s *service) load(o ToldOptions, domains ...string) (disconnect func()) {
	s.mu.Lock()
	s.mu.ends = s.stirs
	s.modules = make(map[string]*module)
	for _, d := range domains {
		s.modules[d] = &module{domain: d, boot: 1, makers: make(map[[2]string]string)}
	}
	s.mu.Unlock()
	o.Session, o.From = s, jid.MustParse(us)
	if o.Warn == nil {
		o.Warn = func(jid.JID, string, error) {}
	}
	s.told = NewTold(o)
	return s.listens(domains...)
}

// listens has the Told listen on a connection, until the function returned is called, which ends it.
func (s *service) listens(domains ...string) (disconnect func()) {
	var services []jid.JID
	for _, d := range domains {
		services = append(services, jid.MustParse(d))
	}
	ctx, end := context.WithCancel(context.Background())
	stirred := make(chan struct{}, 1)
	s.mu.Lock()
	s.stirred = stirred
	s.mu.Unlock()
	var running sync.WaitGroup
	s.told.Use(services)
	running.Go(func() { s.told.Listen(ctx) })
	running.Go(func() {
		for {
			select {
			case <-stirred:
			case <-ctx.Done():
				return
			}
			for s.promptly() && (s.serve() || s.read()) {
				continue
			}
		}
	})
	return func() {
		end()
		running.Wait()
		s.told.Reset()
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, m := range s.modules {
			m.listening = false
		}
	}
}

func (s *service) promptly() bool {
	s.mu.Mutex.Lock() // this is no step
	defer s.mu.Mutex.Unlock()
	return s.prompt
}

// reload has a domain's module loaded anew, or loaded if it was not.
func (s *service) reload(domain string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.modules[domain]
	s.unloads(domain)
	boot := 1
	if m != nil {
		boot = m.boot + 1
	}
	m = &module{domain: domain, boot: boot, n: -1, listening: true, makers: make(map[[2]string]string)}
	s.modules[domain] = m
	s.tell(m, "<hello version='1'/>")
	m.listening = false
}

// unload has a domain's module unloaded.
func (s *service) unload(domain string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unloads(domain)
}

func (s *service) unloads(domain string) {
	if m := s.modules[domain]; m != nil && m.listening {
		s.tell(m, "<bye/>")
	}
	delete(s.modules, domain)
}

// tell has a module tell something. The caller holds mu.
func (s *service) tell(m *module, format string, args ...any) {
	if !m.listening || s.cut {
		return
	}
	m.n++
	if m.loses > 0 {
		m.loses--
		return
	}
	_, to, _ := strings.Cut(us, "@")
	s.down = append(s.down, fmt.Sprintf("<message from='%s' to='%s'><told xmlns='%s' boot='%d' n='%d'>%s</told></message>",
		m.domain, to, NSModule, m.boot, m.n, fmt.Sprintf(format, args...)))
}

// all returns the modules, always in the same order. The caller holds mu.
func (s *service) all() (all []*module) {
	for _, domain := range slices.Sorted(maps.Keys(s.modules)) {
		all = append(all, s.modules[domain])
	}
	return all
}

// stirs tells what has changed, and has it read if the service is prompt. The caller holds mu.
func (s *service) stirs() {
	s.tells()
	if s.stirred != nil && s.prompt && (len(s.down) > 0 || len(s.up) > 0 || s.snapshots()) {
		select {
		case s.stirred <- struct{}{}:
		default:
		}
	}
}

// tells tells what has changed. The caller holds mu.
func (s *service) tells() {
	if s.quiet {
		return // usher does it, see gives
	}
	for _, m := range s.all() {
		if !m.listening || !m.whole {
			continue
		}
		for _, address := range slices.Sorted(maps.Keys(m.known)) {
			if r := m.known[address]; s.chats[address] != r.c {
				s.tell(m, "<ended room='%s'/>", address)
				delete(m.known, address)
			} else {
				s.compare(m, r)
			}
		}
		for _, address := range slices.Sorted(maps.Keys(s.chats)) {
			if strings.HasSuffix(address, "@"+m.domain) && m.known[address] == nil && !slices.Contains(m.todo, address) {
				s.tellRoom(m, address)
			}
		}
	}
}

// compare tells what has changed in a room. The caller holds mu.
func (s *service) compare(m *module, r *asTold) {
	c, by := r.c, s.doer()
	for _, nick := range slices.Sorted(maps.Keys(r.people)) {
		if was := r.people[nick]; c.by(was.full) == nil || c.by(was.full).nick != nick {
			breakouts, because := "", why(s.out[was.full])
			if s.partsOf(c) {
				breakouts = " breakouts='1'"
			}
			if c.by(was.full) != nil {
				because = "renamed"
			}
			s.tell(m, "<left room='%s' nick='%s' jid='%s'%s why='%s'%s/>", c.address, nick, was.full, by, because, breakouts)
			delete(r.people, nick)
		}
	}
	for _, o := range c.seats {
		was, known := r.people[o.nick]
		r.people[o.nick] = *o
		switch {
		case !known || was.full != o.full:
			s.tell(m, "<joined room='%s' nick='%s' jid='%s' role='%s' affiliation='%s'/>", c.address, o.nick, o.full, o.role, c.affiliation(o.full))
		case was.role != o.role:
			s.tell(m, "<role room='%s' nick='%s' jid='%s' role='%s'%s/>", c.address, o.nick, o.full, o.role, by)
		}
	}
	for _, bare := range slices.Sorted(maps.Keys(r.rights)) {
		if c.affiliations[bare] == "" {
			s.tellRight(m, r, bare, by)
		}
	}
	for _, bare := range slices.Sorted(maps.Keys(c.affiliations)) {
		if r.rights[bare] != c.affiliations[bare] {
			s.tellRight(m, r, bare, by)
		}
	}
	if is := s.settingsOf(c); is != r.settings {
		r.settings = is
		s.tell(m, "<settings room='%s'%s/>", c.address, is)
	}
}

func (s *service) tellRight(m *module, r *asTold, bare, by string) {
	is := r.c.affiliations[bare]
	s.tell(m, "<affiliation room='%s' jid='%s' affiliation='%s'%s/>", r.c.address, bare, cmp.Or(is, "none"), by)
	r.learn(bare, is)
	r.changed = m.n
	m.makers[[2]string{r.c.address, bare}] = by
}

func (r *asTold) learn(bare, is string) {
	if r.rights[bare] = is; is == "" {
		delete(r.rights, bare)
	}
}

// tellRoom tells of a room as a whole. The caller holds mu.
func (s *service) tellRoom(m *module, address string) {
	c := s.chats[address]
	r := &asTold{c: c, settings: s.settingsOf(c), people: make(map[string]seat), rights: maps.Clone(c.affiliations)}
	var all strings.Builder
	for _, o := range c.seats {
		r.people[o.nick] = *o
		fmt.Fprintf(&all, "<occupant nick='%s' jid='%s' role='%s' affiliation='%s'/>", o.nick, o.full, o.role, c.affiliation(o.full))
	}
	for bare, affiliation := range c.affiliations {
		fmt.Fprintf(&all, "<affiliation jid='%s' affiliation='%s'%s/>", bare, affiliation, m.makers[[2]string{address, bare}])
	}
	if r.rights == nil {
		r.rights = make(map[string]string)
	}
	s.tell(m, "<room jid='%s'%s>%s</room>", address, r.settings, all.String())
	r.changed = m.n
	m.known[address] = r
}

// doer is the attribute that says who does what happens. The caller holds mu.
func (s *service) doer() string {
	by := s.by
	if s.actor != nil {
		by = bareOf(s.actor.full)
	}
	if by == "" {
		return ""
	}
	return " by='" + by + "'"
}

// partsOf reports whether a room has breakout rooms.
func (s *service) partsOf(c *chat) bool {
	for _, b := range s.chats {
		if b.main == c {
			return true
		}
	}
	return false
}

func (s *service) settingsOf(c *chat) (is string) {
	for _, a := range []struct {
		name string
		on   bool
	}{
		{"members_only", c.membersOnly}, {"public_jids", true}, {"member_invites", c.invites}, {"persistent", c.persistent},
		{"password", c.password != ""}, {"breakouts", s.partsOf(c)},
	} {
		if a.on {
			is += " " + a.name + "='1'"
		}
	}
	node, _, _ := strings.Cut(c.address, "@")
	if lobby := node + "@" + lobbyDomain; s.chats[lobby] != nil {
		is += " lobby='" + lobby + "'"
	}
	if c.main != nil {
		is += " main='" + html.EscapeString(c.main.address) + "'"
	}
	return is
}

func why(codes []string) string {
	for _, c := range codes {
		if why := map[string]string{"301": "banned", "307": "kicked", "321": "affiliation", "322": "members-only"}[c]; why != "" {
			return why
		}
	}
	return ""
}

// snapshots reports whether a snapshot is under way. The caller holds mu.
func (s *service) snapshots() bool {
	for _, m := range s.modules {
		if m.snapshot && !s.cut {
			return true
		}
	}
	return false
}

// snap tells the next room of a snapshot, or that it is complete, and reports whether there was one. The caller holds mu.
func (s *service) snap() bool {
	for _, m := range s.all() {
		switch {
		case !m.snapshot || s.cut:
			continue
		case len(m.todo) == 0:
			m.snapshot = false
			s.tell(m, "<complete/>")
		default:
			address := m.todo[0]
			if m.todo = m.todo[1:]; s.chats[address] != nil {
				s.tellRoom(m, address)
			}
		}
		return true
	}
	return false
}

// asModule does what the module does with a stanza, and reports whether it is for it. The caller holds mu.
func (s *service) asModule(a arrived) bool {
	m := s.modules[a.To]
	switch {
	case a.Give == nil && a.Listen == nil && a.Alive == nil:
		return false
	case m != nil && m.mute:
	case m == nil && a.Give != nil:
		s.refuse("message", a, "cancel", "service-unavailable")
	case m == nil:
		s.refuse("iq", a, "cancel", "service-unavailable")
	case a.Give != nil:
		s.gives(m, a.Give)
	case a.Listen != nil:
		s.tells()
		m.listening, m.whole = true, a.Listen.Tell == "all"
		m.snapshot, m.known, m.todo = m.whole, make(map[string]*asTold), nil
		if m.whole {
			for address := range s.chats {
				if strings.HasSuffix(address, "@"+m.domain) {
					m.todo = append(m.todo, address)
				}
			}
			slices.Sort(m.todo)
		}
		s.say("<iq id='%s' type='result' from='%s' to='%s'><listening xmlns='%s' version='1' boot='%d' n='%d'/></iq>", a.ID, a.To, a.From, NSModule, m.boot, m.n)
	case !m.listening || a.Alive.Boot != fmt.Sprint(m.boot):
		s.refuse("iq", a, "cancel", "item-not-found")
	default:
		s.tells() // before the number is read
		s.say("<iq id='%s' type='result' from='%s' to='%s'><alive xmlns='%s' boot='%d' n='%d'/></iq>", a.ID, a.To, a.From, NSModule, m.boot, m.n)
	}
	return true
}

// give is what usher gives; see mod_usher.lua.
type give struct {
	Room        string  `xml:"room,attr"`
	JID         string  `xml:"jid,attr"`
	Affiliation string  `xml:"affiliation,attr"`
	Was         *string `xml:"was,attr"`
	N           int     `xml:"n,attr"`
	Session     string  `xml:"session,attr"`
	Context     string  `xml:",chardata"`
}

// gives sets an affiliation, and tells that if usher may not know it, or why not. The caller holds mu.
func (s *service) gives(m *module, g *give) {
	s.tells()
	s.gaves++
	if g.Session != "" {
		s.contexts = append(s.contexts, g.Session+" "+g.Context)
	}
	if g.Affiliation == "" {
		return
	}
	c, condition := s.chats[g.Room], ""
	switch {
	case c == nil:
		condition = "item-not-found"
	case c.affiliation(g.JID) == "outcast":
		condition = "outcast"
	case g.JID == us || (g.JID == admin || c.admins[g.JID]) && g.Affiliation != "owner":
		condition = "not-acceptable"
	case len(c.refuses) > 0:
		condition, c.refuses = c.refuses[0], c.refuses[1:]
	}
	if condition != "" {
		is := ""
		if c != nil && c.affiliations[g.JID] != "" {
			is = " is='" + c.affiliations[g.JID] + "'"
		}
		s.tell(m, "<refused room='%s' jid='%s' affiliation='%s' condition='%s'%s/>", g.Room, g.JID, g.Affiliation, condition, is)
		return
	}
	previous := cmp.Or(c.affiliations[g.JID], "none")
	s.quiet, s.by = true, us
	s.affiliate(c, g.JID, g.Affiliation, true)
	m.makers[[2]string{g.Room, g.JID}] = s.doer()
	if r := m.known[g.Room]; r != nil && g.Was != nil && previous == *g.Was && r.changed <= g.N {
		r.learn(g.JID, c.affiliations[g.JID]) // usher takes it for granted
	}
	s.quiet = false
	s.tells()
	s.by = ""
}

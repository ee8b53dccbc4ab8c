package component

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
	"mellium.im/xmpp/jid"

	"github.com/xmpp-usher/usher/auth/store"
	"github.com/xmpp-usher/usher/muc"
	"github.com/xmpp-usher/usher/pkg/alarm"
)

// writtenBeyond is how long a grant stays written down beyond its end: people who are inside by then may stay.
const writtenBeyond = 7 * 24 * time.Hour

// crossAfter is how long a grant that has ended stays written down, so that those that end together are crossed out together.
const crossAfter = 100 * time.Millisecond

// warnEvery is the interval of warnings that the store is full.
const warnEvery = time.Minute

// ledger writes grants down in the store, and sessions together with them. It implements muc.Ledger. It also knows which grants are
// live: those of this process, and those of an earlier one that have not ended.
type ledger struct {
	store  store.Store
	log    *zap.Logger
	counts *counters
	// endings are what is still to happen to live grants. The lock of the ledger comes before theirs.
	endings *endings
	// seats are written down and given back together with grants.
	seats *seats

	// order keeps a new grant from being crossed out because an earlier one of the same person has ended.
	order  sync.RWMutex
	mu     sync.Mutex
	ended  map[string]bool // keys of grants that have ended and are still written down
	wake   alarm.Alarm     // rings when there are any
	warned map[store.Kind]time.Time
	rooms  index // of live grants
	lobby  index // the same of people who were left to lobbies
}

func newLedger(s store.Store, log *zap.Logger, counts *counters) *ledger {
	return &ledger{
		store: s, log: log, counts: counts, ended: make(map[string]bool), wake: alarm.New(0), warned: make(map[store.Kind]time.Time),
		rooms: make(index), lobby: make(index), endings: newEndings(),
		seats: newSeats(store.Seats{Store: s, Keeper: rand.Text()}, time.Now),
	}
}

// session is a session that begins with a grant, so that both are written down at once.
type session struct {
	id     string // empty if the store has no space for it
	record store.Record
	done   bool // it is written down, or the store has no space for it
}

// put writes records down, except those that the store has no space for, and returns the kinds of those: a full store refuses
// nobody. Without a session, people need their token again. Without the record of a grant, the next process leaves the grant to
// people inside until they go, and takes it back from people outside only when it enters the room.
func (l *ledger) put(ctx context.Context, records ...store.Record) (without map[store.Kind]bool, err error) {
	without = make(map[store.Kind]bool)
	for len(records) > 0 {
		err := l.store.Put(ctx, records...)
		var full *store.FullError
		n := len(records)
		if !errors.As(err, &full) {
			return without, err
		}
		records = slices.DeleteFunc(records, func(r store.Record) bool {
			if full.Kind != "" && full.Kind != r.Kind {
				return false
			}
			without[r.Kind] = true
			l.without(r.Kind, err)
			return true
		})
		if len(records) == n {
			return without, err
		}
	}
	return without, nil
}

// without counts records that were not written down, and warns of them every warnEvery.
func (l *ledger) without(k store.Kind, err error) {
	if k == store.KindSeat {
		return // this process knows its seats without the store
	}
	if k == store.KindSession {
		l.counts.happened(EventSessionsFull)
	} else {
		l.counts.happened(EventGrantsFull)
	}
	l.mu.Lock()
	again := time.Since(l.warned[k]) < warnEvery
	if !again {
		l.warned[k] = time.Now()
	}
	l.mu.Unlock()
	switch {
	case again:
	case k == store.KindSession:
		l.log.Warn("people are let in without a session", zap.Error(err))
	default:
		l.log.Warn("people are let in and their grants are not written down; after a restart those inside keep them until they leave", zap.Error(err))
	}
}

// session writes a session down unless that is done, and returns its id; none if the store has no space for it.
func (l *ledger) session(ctx context.Context, s *session) (id string, err error) {
	if !s.done {
		without, err := l.put(ctx, s.record)
		if err != nil {
			return "", err
		}
		s.written(without)
	}
	return s.id, nil
}

func (s *session) written(without map[store.Kind]bool) {
	if s.done = true; without[store.KindSession] {
		s.id = ""
	}
}

// grantRecord is a grant as it is written down, under the key of its room and person.
type grantRecord struct {
	Affiliation string
	At          time.Time
	Expires     time.Time `json:",omitzero"`
	NeedsHost   bool      `json:",omitempty"`
	By          *granted  `json:",omitempty"` // older versions wrote none
}

// grantKey returns the key of a grant. The address of a room has no space in it.
func grantKey(room, who jid.JID) string { return grantKeyOf(room.String(), who.String()) }

// grantKeyOf is grantKey for those who have the texts.
func grantKeyOf(room, who string) string { return room + " " + who }

// Granted implements muc.Ledger.
func (l *ledger) Granted(ctx context.Context, g *muc.Grant, with any) error {
	room, who := g.Room.String(), g.Who.String()
	seat, seated := l.seats.of(room, who)
	r, err := recordOf(g, grantKeyOf(room, who), seat.Number)
	if err != nil {
		return err
	}
	records := []store.Record{r}
	s, _ := with.(*session)
	if s != nil {
		records = append(records, s.record)
	}
	if seated {
		of, err := l.seats.store.Record(seat, r.End)
		if err != nil {
			return err
		}
		records = append(records, of)
	}
	l.order.RLock()
	defer l.order.RUnlock()
	l.mu.Lock()
	before := l.ended[r.Key]
	delete(l.ended, r.Key)
	// At once, so that nobody is overlooked who is let in just now; see endings.
	now, was := l.enter(g)
	l.mu.Unlock()
	without, err := l.put(ctx, records...)
	if err == nil {
		l.seats.granted(room, who)
	}
	if err == nil && s != nil {
		s.written(without)
	}
	if err != nil {
		l.comeBack(now, was)
	}
	if before && (err != nil || without[store.KindGrant]) {
		l.toCross(r.Key) // the store still has the one that has ended
	}
	return err
}

// recordOf is a grant as the store has it under its key, with the number of its seat.
func recordOf(g *muc.Grant, key string, seat int) (store.Record, error) {
	record := grantRecord{Affiliation: g.Affiliation, At: g.At, Expires: g.Expires, NeedsHost: g.NeedsHost}
	if by := grantedBy(g); by != unknown || seat > 0 {
		seated := *by
		seated.Seat = seat
		record.By = &seated
	}
	value, err := json.Marshal(record)
	end := g.At
	for _, later := range []time.Time{g.Expires, removeAt(record.By)} {
		if later.After(end) {
			end = later
		}
	}
	return store.Record{Kind: store.KindGrant, Key: key, Value: value, End: end.Add(writtenBeyond)}, err
}

// comeBack makes the earlier grant the live one again, because the new one could not be written down.
func (l *ledger) comeBack(now, was *live) {
	if now == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	room, who := now.Room.String(), now.Who.String()
	switch {
	case l.rooms.of(room, who) != now: // it has ended meanwhile
	case was == nil:
		l.strikeOut(room, who)
	default:
		l.endings.forget(now)
		l.rooms.put(room, who, was)
		l.endings.expect(was)
	}
}

func removeAt(by *granted) time.Time {
	if by == nil {
		return time.Time{}
	}
	return by.RemoveAt
}

// Ended implements muc.Ledger.
func (l *ledger) Ended(room, who jid.JID) {
	in, of := room.String(), who.String()
	l.mu.Lock()
	l.strikeOut(in, of)
	knocked := l.lobby.of(in, of) != nil // and that is what is written down
	l.mu.Unlock()
	l.seats.ended(in, of)
	if !knocked {
		l.toCross(grantKeyOf(in, of))
	}
}

// toCross has a grant crossed out.
func (l *ledger) toCross(key string) {
	l.mu.Lock()
	l.ended[key] = true
	l.mu.Unlock()
	l.wake.Ring()
}

// run crosses out grants that have ended, until ctx ends and nothing is left to do.
func (l *ledger) run(ctx context.Context) {
	for ctx.Err() == nil {
		l.wake.Sleep(ctx, time.Time{}, time.Time{})
		select {
		case <-ctx.Done():
		case <-time.After(crossAfter):
		}
		l.cross(ctx)
	}
}

// cross crosses out the grants that have ended so far.
func (l *ledger) cross(ctx context.Context) {
	l.order.Lock()
	defer l.order.Unlock()
	l.mu.Lock()
	keys := make([]string, 0, len(l.ended))
	for key := range l.ended {
		keys = append(keys, key)
	}
	clear(l.ended)
	l.mu.Unlock()
	if len(keys) == 0 {
		return
	}
	// They are to be crossed out also when the connection has ended.
	ctx = context.WithoutCancel(ctx)
	// A seat is given back before its grant is crossed out, so that no seat is left without one.
	err := l.seats.crossing(ctx)
	if err == nil {
		err = l.store.Delete(ctx, store.KindGrant, keys...)
	}
	if err != nil {
		// They are tried again with the next that end. In the next process they would only cost a search.
		l.mu.Lock()
		for _, key := range keys {
			l.ended[key] = true
		}
		l.mu.Unlock()
		if errors.Is(err, store.ErrStandby) {
			return // the active usher crosses out what it finds; this one tries again if it is that
		}
		l.log.Warn("could not cross out grants that have ended in the store", zap.Int("grants", len(keys)), zap.Error(err))
	}
}

// written returns the grants that are written down. From then on they are live.
func (l *ledger) written(ctx context.Context) ([]*muc.Grant, error) {
	var all []*muc.Grant
	for r, err := range l.store.All(ctx, store.KindGrant) {
		if err != nil {
			return nil, err
		}
		g, err := readGrant(r.Key, r.Value)
		if err != nil {
			l.log.Warn("cannot read a grant in the store; it is skipped", zap.Error(err))
			continue
		}
		l.mu.Lock()
		if others := l.rooms[g.Room.String()]; len(others) > 0 {
			g.Room = others[0].Value.Room // the same, once in memory
		}
		if grantedBy(g).Knocked {
			l.knocks((*live)(g))
			l.mu.Unlock()
			continue
		}
		l.enter(g)
		l.mu.Unlock()
		l.takesOver(g, r.End)
		all = append(all, g)
	}
	return all, nil
}

// takesOver takes in the seat of a grant of an earlier process, which is written down until then.
func (l *ledger) takesOver(g *muc.Grant, until time.Time) {
	if by := grantedBy(g); by.Seat > 0 {
		l.seats.restore(g.Room.String(), g.Who.String(), by.Seat, until)
	}
}

func readGrant(key string, value []byte) (*muc.Grant, error) {
	var r grantRecord
	if err := json.Unmarshal(value, &r); err != nil {
		return nil, err
	}
	in, of, _ := strings.Cut(key, " ")
	room, who, err := addresses(in, of)
	if err == nil && (room.Localpart() == "" || who.Domainpart() == "") {
		err = errors.New("a grant of nobody, or in no room")
	}
	g := &muc.Grant{Room: room, Who: who, Affiliation: r.Affiliation, At: r.At, Expires: r.Expires, NeedsHost: r.NeedsHost}
	if r.By != nil {
		g.By = r.By
	}
	return g, err
}

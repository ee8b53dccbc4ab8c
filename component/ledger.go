package component

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"time"

	"go.uber.org/zap"
	"mellium.im/xmpp/jid"

	"github.com/xmpp-usher/usher/auth/store"
	"github.com/xmpp-usher/usher/muc"
)

// kept is how long a grant stays written down beyond its end: whoever is inside by then may stay.
const kept = 7 * 24 * time.Hour

// ledger writes grants down in the store. It implements muc.Ledger.
type ledger struct {
	store store.Store
	log   *zap.Logger

	// order keeps a grant that is written down from being crossed out because an earlier one has ended.
	order sync.RWMutex
	mu    sync.Mutex
	ended map[string]bool // keys of what is to be crossed out
	some  chan struct{}   // has an entry if there is any
}

func newLedger(s store.Store, log *zap.Logger) *ledger {
	return &ledger{store: s, log: log, ended: make(map[string]bool), some: make(chan struct{}, 1)}
}

// grantRecord is a grant as it is written down.
type grantRecord struct {
	Room, Who, Affiliation string
	At, Expires            time.Time
	NeedsHost              bool `json:",omitempty"`
}

func grantKey(room, who jid.JID) string { return room.String() + " " + who.String() }

// Granted implements muc.Ledger.
func (l *ledger) Granted(ctx context.Context, g muc.Granted) error {
	value, err := json.Marshal(grantRecord{g.Room.String(), g.Who.String(), g.Affiliation, g.At, g.Expires, g.NeedsHost})
	if err != nil {
		return err
	}
	end := g.At
	if g.Expires.After(end) {
		end = g.Expires
	}
	key := grantKey(g.Room, g.Who)
	l.order.RLock()
	defer l.order.RUnlock()
	l.mu.Lock()
	before := l.ended[key]
	delete(l.ended, key)
	l.mu.Unlock()
	err = l.store.Put(ctx, store.KindGrant, store.Record{Key: key, Value: value, End: end.Add(kept)})
	if err != nil && before {
		l.Ended(g.Room, g.Who) // what is written down is still the one that has ended
	}
	return err
}

// Ended implements muc.Ledger.
func (l *ledger) Ended(room, who jid.JID) {
	l.mu.Lock()
	l.ended[grantKey(room, who)] = true
	l.mu.Unlock()
	select {
	case l.some <- struct{}{}:
	default:
	}
}

// run crosses out what has ended, until ctx ends and nothing is left to do.
func (l *ledger) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			l.cross(ctx)
			return
		case <-l.some:
			l.cross(ctx)
		}
	}
}

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
	// What has ended has ended, also when the connection has.
	if err := l.store.Delete(context.WithoutCancel(ctx), store.KindGrant, keys...); err != nil {
		// They are tried again with the next that end. The next process would look for them in vain.
		l.mu.Lock()
		for _, key := range keys {
			l.ended[key] = true
		}
		l.mu.Unlock()
		l.log.Warn("grants that have ended could not be crossed out in the store", zap.Int("grants", len(keys)), zap.Error(err))
	}
}

// written returns what is written down.
func (l *ledger) written(ctx context.Context) ([]muc.Granted, error) {
	var all []muc.Granted
	for r, err := range l.store.All(ctx, store.KindGrant) {
		if err != nil {
			return nil, err
		}
		g, err := readGrant(r.Value)
		if err != nil {
			l.log.Warn("a grant in the store cannot be read and is passed over", zap.Error(err))
			continue
		}
		all = append(all, g)
	}
	return all, nil
}

func readGrant(value []byte) (muc.Granted, error) {
	var r grantRecord
	if err := json.Unmarshal(value, &r); err != nil {
		return muc.Granted{}, err
	}
	room, err := jid.ParseUnsafe(r.Room)
	if err != nil {
		return muc.Granted{}, err
	}
	who, err := jid.ParseUnsafe(r.Who)
	if err == nil && (room.Localpart() == "" || who.Domainpart() == "") {
		err = errors.New("a grant of nobody, or in no room")
	}
	return muc.Granted{Room: room.JID, Who: who.JID, Affiliation: r.Affiliation, At: r.At, Expires: r.Expires, NeedsHost: r.NeedsHost}, err
}

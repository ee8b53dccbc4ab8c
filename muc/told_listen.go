package muc

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"sync"
	"time"

	"mellium.im/xmpp/jid"
	"mellium.im/xmpp/stanza"

	"github.com/xmpp-usher/usher/pkg/alarm"
	"github.com/xmpp-usher/usher/pkg/element"
)

const (
	// aliveEvery is the interval at which the module is asked for a sign of life.
	aliveEvery = 30 * time.Second
	// listenSeldom is the interval at which a service is asked for the module that did not have it. A module that is loaded meanwhile says so
	// itself.
	listenSeldom = 5 * time.Minute
	// listenPause is the longest pause before the module is asked anew after a gap. It begins with none, then a second, and doubles, until the
	// mirror has held for as long.
	listenPause = time.Minute
)

// Use changes which services are listened to.
func (t *Told) Use(services []jid.JID) {
	if t == nil {
		return
	}
	t.mu.Lock()
	t.wanted = services
	t.mu.Unlock()
	for _, j := range services {
		t.begins(j)
	}
	t.changed.Ring()
}

// Listen keeps the mirrors of the services that Use names whole until ctx ends, which lasts as long as the connection. It asks the module
// of each to tell, and for a sign of life, and asks anew after a gap. Before the next connection [Told.Reset] must be called.
func (t *Told) Listen(ctx context.Context) {
	if t == nil {
		return
	}
	var attending sync.WaitGroup
	defer attending.Wait()
	ends := make(map[string]context.CancelFunc)
	for ctx.Err() == nil {
		keep := make(map[string]bool)
		for _, s := range t.wants() {
			domain := s.jid.Domainpart()
			if keep[domain] = true; ends[domain] != nil {
				continue
			}
			own, end := context.WithCancel(ctx)
			ends[domain] = end
			attending.Go(func() { t.attend(own, s) })
		}
		for _, s := range t.unwanted(keep) {
			if end := ends[s.jid.Domainpart()]; end != nil {
				end()
				delete(ends, s.jid.Domainpart())
			}
			t.drop(s)
		}
		select {
		case <-t.changed:
		case <-ctx.Done():
		}
	}
}

// wants returns the services that are wanted.
func (t *Told) wants() (all []*teller) {
	t.mu.RLock()
	wanted := t.wanted
	t.mu.RUnlock()
	for _, j := range wanted {
		all = append(all, t.begins(j))
	}
	return all
}

// unwanted returns the services that are not kept.
func (t *Told) unwanted(keep map[string]bool) (all []*teller) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	for domain, s := range t.tellers {
		if !keep[domain] {
			all = append(all, s)
		}
	}
	return all
}

// begins returns the service with an address, of which nothing is known yet.
func (t *Told) begins(j jid.JID) *teller {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.tellers[j.Domainpart()]
	if s == nil {
		s = &teller{jid: j.Domain(), from: t.o.From.String(), woken: alarm.NewBell()}
		t.tellers[j.Domainpart()] = s
	}
	return s
}

// drop forgets a service that is not wanted any more.
func (t *Told) drop(s *teller) {
	t.order.Lock()
	defer t.order.Unlock()
	t.mu.Lock()
	delete(t.tellers, s.jid.Domainpart())
	t.mu.Unlock()
	t.forget(s, false)
}

// attend keeps the mirror of one service whole until ctx ends.
func (t *Told) attend(ctx context.Context, s *teller) {
	var pause time.Duration
	for ctx.Err() == nil {
		began := time.Now()
		err := t.listen(ctx, s)
		if ctx.Err() != nil {
			return
		}
		wait := listenSeldom
		if !missing(err) {
			if time.Since(began) > listenPause {
				pause = 0
			}
			wait = pause
			pause = min(max(2*pause, time.Second), listenPause)
		}
		t.stops(s, err)
		select {
		case <-ctx.Done():
		case <-s.woken: // by a module that was loaded now
		case <-time.After(wait):
		}
	}
}

// missing reports whether an error means that the service does not have the module. No answer may only mean that the server is slow.
func missing(err error) bool {
	return !errors.Is(err, errGap) && !errors.Is(err, errReload) && !errors.Is(err, context.DeadlineExceeded)
}

// starts makes a service one that is asked to tell.
func (t *Told) starts(s *teller) {
	t.order.Lock()
	defer t.order.Unlock()
	t.mu.Lock()
	defer t.mu.Unlock()
	s.woken.Still()
	s.rooms, s.run, s.listening, s.why = nil, run{}, true, nil
}

// stops forgets what a service has told, because it tells no more.
func (t *Told) stops(s *teller, err error) {
	t.order.Lock()
	defer t.order.Unlock()
	t.mu.Lock()
	told, absent := s.takes, t.o.Expected && missing(err) && !s.missing
	s.missing = missing(err)
	if !errors.Is(s.why, errReload) {
		s.woken.Still() // it rang of what has ended listen
	}
	t.mu.Unlock()
	t.forget(s, errors.Is(err, errGap))
	switch {
	case told && !errors.Is(err, errReload):
		t.o.Warn(s.jid, "rooms are asked until usher's module tells of all of them again", err)
	case absent:
		t.o.Warn(s.jid, "usher's module does not answer: it is not loaded, too old, or does not know usher; see usher doctor", err)
	}
}

// listen asks the module to tell, and returns why it tells no more, or does not begin to.
func (t *Told) listen(ctx context.Context, s *teller) error {
	t.starts(s)
	var answer struct {
		Version string `xml:"version,attr"`
		sign
	}
	tell := "nothing"
	if t.o.Mirror {
		tell = "all"
	}
	if err := t.ask(ctx, s, "listen", element.NewAttr("tell", tell), &answer); err != nil {
		return err
	}
	if err := t.answered(s, answer.Version, answer.sign); err != nil {
		return err
	}
	tick := time.NewTicker(aliveEvery)
	defer tick.Stop()
	for last := uint64(0); ; {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.woken:
			return t.why(s)
		case <-tick.C:
		}
		var still sign
		err := t.ask(ctx, s, "alive", element.NewAttr("boot", answer.Boot), &still)
		switch {
		case Absent(err):
			return fmt.Errorf("%w: %w", errGap, err)
		case err != nil:
			return err
		}
		if last, err = t.compare(s, still, last); err != nil {
			return err
		}
	}
}

// sign is a sign of life.
type sign struct {
	Boot string `xml:"boot,attr"`
	N    uint64 `xml:"n,attr"`
}

func (t *Told) ask(ctx context.Context, s *teller, what string, attr xml.Attr, v any) error {
	ctx, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	iq := stanza.IQ{Type: stanza.GetIQ, From: t.o.From, To: s.jid}
	return t.o.Session.IQ(ctx, iq, element.Empty(NSModule, what, attr), v)
}

// answered takes in that the module has begun to tell. The error says what was lost since.
func (t *Told) answered(s *teller, version string, is sign) error {
	t.order.Lock()
	defer t.order.Unlock()
	t.mu.Lock()
	if !s.listening {
		defer t.mu.Unlock()
		return s.why
	}
	if !s.run.answers(is.Boot, is.N) {
		defer t.mu.Unlock()
		return errGap
	}
	s.takes, s.missing, s.version, s.boot = true, false, version, is.Boot
	t.mu.Unlock()
	t.completes(s)
	return nil
}

// why returns why the service tells no more.
func (t *Told) why(s *teller) error {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return s.why
}

// compare compares a sign of life with what was told. last is the number of the last tell at the sign before; that of this one is
// returned. A snapshot in which nothing comes between two signs is lost.
func (t *Told) compare(s *teller, is sign, last uint64) (uint64, error) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	switch {
	case !s.listening: // the reader knows more, and wakes listen
		return last, nil
	case is.Boot != s.run.boot || is.N > s.run.last:
		return last, fmt.Errorf("%w: number %d of %d", errGap, s.run.last, is.N)
	case t.o.Mirror && !s.tells && s.run.last == last:
		return last, fmt.Errorf("%w: the snapshot does not go on", errGap)
	}
	return s.run.last, nil
}

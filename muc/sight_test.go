package muc

import (
	"fmt"
	"maps"
	"sync"
)

// sights are what one process has told of rooms. They judge the order.
type sights struct {
	mu    sync.Mutex
	rooms map[string]*sighted
	wrong []string
	all   []string
	// byBare says that people are known by their bare JID, as Guard knows them.
	byBare bool
}

// sighted is how a room is, by what was told of it.
type sighted struct {
	host   bool
	inside map[string]bool // whether they moderate, by JID
}

func newSights() *sights { return &sights{rooms: make(map[string]*sighted)} }

// sees is an Options.Sees.
func (ss *sights) sees(s Sight) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	room, who := s.Room.String(), s.Who.String()
	if ss.byBare {
		who = s.Who.Bare().String()
	}
	ss.all = append(ss.all, fmt.Sprintf("%d %s %s %t", s.Seen, room, who, s.Before))
	rm := ss.rooms[room]
	wrong := func(is bool, why string) {
		if is {
			ss.wrong = append(ss.wrong, ss.all[len(ss.all)-1]+": "+why)
		}
	}
	switch s.Seen {
	case SeenOpen:
		wrong(rm != nil, "it is open")
		ss.rooms[room] = &sighted{inside: make(map[string]bool)}
		return
	case SeenEnd:
		wrong(rm != nil && (rm.host || len(rm.inside) > 0), "somebody is inside")
		delete(ss.rooms, room)
		return
	}
	if wrong(rm == nil, "it is not open"); rm == nil {
		return
	}
	_, inside := rm.inside[who]
	switch s.Seen {
	case SeenHost, SeenNoHost:
		wrong(rm.host == (s.Seen == SeenHost), "it is so")
		rm.host = s.Seen == SeenHost
	case SeenCame:
		wrong(inside, "they are inside")
		rm.inside[who] = s.Moderator
	case SeenRole:
		wrong(!inside, "they are not inside")
		rm.inside[who] = s.Moderator
	case SeenGone:
		wrong(!inside, "they are not inside")
		delete(rm.inside, who)
	}
}

// of returns how a room is, and what was told out of order; nil for a room that is not open.
func (ss *sights) of(room string) (rm *sighted, wrong []string) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	if rm := ss.rooms[room]; rm != nil {
		return &sighted{host: rm.host, inside: maps.Clone(rm.inside)}, ss.wrong
	}
	return nil, ss.wrong
}

// differ returns why what Rooms or Guard have told differs from what they know of a room; empty if it does not. people are those inside,
// and whether they moderate.
func (ss *sights) differ(room string, open, host bool, people map[string]bool) string {
	rm, wrong := ss.of(room)
	switch {
	case len(wrong) > 0:
		return fmt.Sprintf("told out of order: %v", wrong)
	case (rm != nil) != open:
		return fmt.Sprintf("%s is told to be open: %t; %v", room, rm != nil, ss.all)
	case rm != nil && rm.host != host:
		return fmt.Sprintf("in %s a host is told to be inside: %t; %v", room, rm.host, ss.all)
	case rm != nil && !maps.Equal(rm.inside, people):
		return fmt.Sprintf("in %s are told to be inside %v, and are %v", room, rm.inside, people)
	}
	return ""
}

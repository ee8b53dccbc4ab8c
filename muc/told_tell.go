package muc

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// tell is one thing that the module told, as it wrote it.
type tell struct {
	boot string
	n    uint64
	kind string
	words
	occupants, affiliations []words // of a whole room
}

// words are the attributes of an element.
type words struct {
	room, nick, jid string
	role            rank
	affiliation, is rank // is: what somebody is, of a refusal
	by, why         string
	settings        settings
}

// settings is what a room is configured to be.
type settings struct {
	flags       flags
	lobby, main string // the lobby room; the main room of a breakout room
}

// flags are the settings that are on.
type flags uint8

const (
	flagMembersOnly flags = 1 << iota
	flagPublicJIDs
	flagMemberInvites
	flagPersistent
	flagPassword
	flagLocked
	flagBreakouts
)

// rank is a role or an affiliation.
type rank uint8

// rankNames are what they are called; the empty one was not said.
var rankNames = [...]string{"", "none", "outcast", "member", "admin", "owner", "visitor", "participant", "moderator"}

const (
	rankUnsaid rank = iota
	rankNone
	rankOutcast
	rankMember
	rankAdmin
	rankOwner
	rankVisitor
	rankParticipant
	rankModerator
)

func (r rank) String() string { return rankNames[r] }

func readRank(value string) (rank, error) {
	n := slices.Index(rankNames[:], value)
	if n < 0 {
		return rankUnsaid, fmt.Errorf("no role and no affiliation: %q", value)
	}
	return rank(n), nil
}

// errUntold is what is wrong with a message of the module that says nothing, or not of what.
var errUntold = errors.New("a message from usher's module that makes no sense")

// readTell reads a message after its start tag. ours says that the message is one of the module's.
func readTell(body xml.TokenReader) (said tell, ours bool, err error) {
	told, err := nextElement(body)
	if err != nil || told.Name != (xml.Name{Space: NSModule, Local: "told"}) {
		return said, false, err
	}
	for _, a := range told.Attr {
		switch a.Name.Local {
		case "boot":
			said.boot = a.Value
		case "n":
			if said.n, err = strconv.ParseUint(a.Value, 10, 63); err != nil {
				return said, true, err
			}
		}
	}
	what, err := nextElement(body)
	if err != nil {
		return said, true, err
	}
	if said.boot == "" || what.Name.Space != NSModule {
		return said, true, errUntold
	}
	said.kind = what.Name.Local
	if said.words, err = readWords(what); err != nil {
		return said, true, err
	}
	if said.kind == "room" {
		said.room, said.jid = said.jid, ""
		err = said.readRoom(body)
	}
	return said, true, err
}

// readRoom reads who is in a room, and the affiliations there.
func (said *tell) readRoom(body xml.TokenReader) error {
	for {
		item, err := nextElement(body)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		w, err := readWords(item)
		if err != nil {
			return err
		}
		switch item.Name {
		case xml.Name{Space: NSModule, Local: "occupant"}:
			said.occupants = append(said.occupants, w)
		case xml.Name{Space: NSModule, Local: "affiliation"}:
			said.affiliations = append(said.affiliations, w)
		default:
			return errUntold
		}
		if end, err := body.Token(); err != nil {
			return err
		} else if _, ok := end.(xml.EndElement); !ok {
			return errUntold
		}
	}
}

// nextElement returns the next element inside the current one. The error is io.EOF if there is none.
func nextElement(body xml.TokenReader) (xml.StartElement, error) {
	for {
		tok, err := body.Token()
		if err != nil && tok == nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return xml.StartElement{}, err
		}
		switch tok := tok.(type) {
		case xml.StartElement:
			return tok, nil
		case xml.EndElement:
			return xml.StartElement{}, io.EOF
		}
	}
}

func readWords(e xml.StartElement) (w words, err error) {
	for _, a := range e.Attr {
		if a.Name.Space != "" {
			continue
		}
		if err := w.read(a.Name.Local, a.Value); err != nil {
			return w, err
		}
	}
	return w, nil
}

func (w *words) read(name, value string) (err error) {
	switch name {
	case "room":
		w.room = value
	case "nick":
		w.nick = value
	case "jid":
		w.jid = value
	case "role":
		w.role, err = readRank(value)
	case "affiliation":
		w.affiliation, err = readRank(value)
	case "is":
		w.is, err = readRank(value)
	case "by":
		w.by = value
	case "why", "reason", "condition":
		w.why = value
	case "lobby":
		w.settings.lobby = value
	case "main":
		w.settings.main = value
	default:
		if f, ok := flagNames[name]; ok && isYes([]string{value}) {
			w.settings.flags |= f
		}
	}
	return err
}

var flagNames = map[string]flags{
	"members_only": flagMembersOnly, "public_jids": flagPublicJIDs, "member_invites": flagMemberInvites,
	"persistent": flagPersistent, "password": flagPassword, "locked": flagLocked, "breakouts": flagBreakouts,
}

// localpart returns the localpart of a room of a service; false if it is none.
func localpart(room, domain string) (string, bool) {
	local, ok := strings.CutSuffix(room, domain)
	if !ok || len(local) < 2 || local[len(local)-1] != '@' {
		return "", false
	}
	local = local[:len(local)-1]
	return local, !strings.ContainsAny(local, "@/")
}

package webhook

//go:generate go test -run ^TestReadme$ . -update

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"mellium.im/xmpp/jid"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/auth/store"
	"github.com/xmpp-usher/usher/component"
)

// Type is the type of an event.
type Type string

// The types of events. README.md says when each is sent.
const (
	Admitted       Type = "admitted"
	Refused        Type = "refused"
	Waiting        Type = "waiting"
	HostArrived    Type = "host-arrived"
	HostLeft       Type = "host-left"
	RoomOpened     Type = "room-opened"
	RoomEnded      Type = "room-ended"
	OccupantJoined Type = "occupant-joined"
	OccupantLeft   Type = "occupant-left"
	Expired        Type = "expired"
	Revoked        Type = "revoked"
)

// Types returns all types, in the order of README.md.
func Types() []Type {
	return []Type{Admitted, Refused, Waiting, HostArrived, HostLeft, RoomOpened, RoomEnded, OccupantJoined, OccupantLeft, Expired, Revoked}
}

func inWords(types []Type) string {
	var all []string
	for _, t := range types {
		all = append(all, string(t))
	}
	return strings.Join(all, ", ")
}

// typeOf returns the type of the event that a report is; empty if it is none.
func typeOf(r component.Report) Type {
	switch r.What {
	case component.Decided:
		switch {
		case r.Verdict == auth.Allow:
			return Admitted
		case r.Again:
			return ""
		case r.Verdict == auth.Wait:
			return Waiting
		}
		return Refused
	case component.HostArrived:
		return HostArrived
	case component.HostLeft:
		return HostLeft
	case component.RoomOpened:
		return RoomOpened
	case component.RoomEnded:
		return RoomEnded
	case component.Joined:
		return OccupantJoined
	case component.Left:
		return OccupantLeft
	case component.Expired:
		return Expired
	case component.RevokedOut:
		return Revoked
	}
	return ""
}

// message is the body of a request.
type message struct {
	Type      Type    `json:"type"`
	Timestamp string  `json:"timestamp"`
	Data      payload `json:"data"`
}

// payload has the names of fields of jitsi-contrib's event_sync (mod_event_sync_component.lua) first, and then usher's own.
type payload struct {
	EventName   string    `json:"event_name,omitempty"`
	RoomName    string    `json:"room_name,omitempty"`
	RoomJID     string    `json:"room_jid,omitempty"`
	IsBreakout  bool      `json:"is_breakout"`
	Breakout    string    `json:"breakout_room_id,omitempty"`
	CreatedAt   int64     `json:"created_at,omitempty"`
	DestroyedAt int64     `json:"destroyed_at,omitempty"`
	Occupant    *occupant `json:"occupant,omitempty"`

	Tenant      string `json:"tenant,omitempty"`
	VHost       string `json:"vhost,omitempty"`
	Verdict     string `json:"verdict,omitempty"`
	Reason      string `json:"reason,omitempty"`
	Affiliation string `json:"affiliation,omitempty"`
	Issuer      string `json:"issuer,omitempty"`
	JTI         string `json:"jti,omitempty"`
	WaitedMS    int64  `json:"waited_ms,omitempty"`
	Text        string `json:"text,omitempty"`
}

type occupant struct {
	JID      string `json:"occupant_jid"`
	ID       string `json:"id,omitempty"`
	JoinedAt int64  `json:"joined_at,omitempty"`
	LeftAt   int64  `json:"left_at,omitempty"`
}

// maxText bounds the texts of an event in bytes, so that an event fits into a record of the store.
const maxText = 512

func clip(text string) string { return strings.ToValidUTF8(text[:min(len(text), maxText)], "") }

// body returns the body of the request that tells a report.
func body(t Type, r component.Report, breakout string) ([]byte, error) {
	seconds := r.At.Unix()
	d := payload{
		RoomName: r.Room.Localpart(), Tenant: clip(r.Tenant), VHost: clip(r.VHost), Issuer: clip(r.Issuer), JTI: clip(r.JTI),
		WaitedMS: r.Waited.Milliseconds(), Text: clip(r.Text),
	}
	if !r.Room.Equal(jid.JID{}) {
		d.RoomJID = r.Room.Bare().String()
	}
	if breakout != "" && r.Room.Domainpart() == breakout {
		d.IsBreakout, d.Breakout = true, r.Room.Localpart()
	}
	if !r.Who.Equal(jid.JID{}) {
		d.Occupant = &occupant{JID: r.Who.Bare().String(), ID: clip(r.User)}
	}
	switch t {
	case Admitted, Refused, Waiting:
		d.Verdict, d.Reason, d.Affiliation = r.Verdict.String(), string(r.Reason), string(r.Affiliation)
	case RoomOpened:
		d.EventName, d.CreatedAt = "muc-room-created", seconds
	case RoomEnded:
		d.EventName, d.DestroyedAt = "muc-room-destroyed", seconds
	case OccupantJoined:
		d.EventName = "muc-occupant-joined"
		if d.Occupant != nil {
			d.Occupant.JoinedAt = seconds
		}
	case OccupantLeft:
		d.EventName = "muc-occupant-left"
		if d.Occupant != nil {
			d.Occupant.LeftAt = seconds
		}
	case Expired, Revoked:
		d.Affiliation = string(r.Affiliation)
	}
	return json.Marshal(message{Type: t, Timestamp: r.At.UTC().Format("2006-01-02T15:04:05.000Z07:00"), Data: d})
}

// event is what waits for one hook.
type event struct {
	hook string // its name
	seq  uint64 // the order of events
	id   string // the webhook-id: the same for all hooks and all attempts
	room string // events of one room are sent in order
	at   time.Time
	body []byte

	flying bool // a request is under way
	over   bool // sent or dead
}

// key returns the key of the event's record. Its end is random, so that two ushers never have the same.
func (e *event) key() string { return fmt.Sprintf("%s %020d %s", e.hook, e.seq, e.id) }

// record returns the record of the event: the time, the room, and the body on a line of its own.
func (e *event) record() store.Record {
	value := fmt.Appendf(nil, "%d %s\n%s", e.at.UnixNano(), e.room, e.body)
	return store.Record{Kind: store.KindWebhook, Key: e.key(), Value: value, End: e.at.Add(kept)}
}

var errUnreadable = errors.New("an event in the store is damaged, or of another version of usher")

// parse reads what record has written.
func parse(r store.Record) (*event, error) {
	e := &event{}
	fields := strings.Split(r.Key, " ")
	head, body, whole := bytes.Cut(r.Value, []byte("\n"))
	at, room, parted := strings.Cut(string(head), " ")
	if len(fields) != 3 || !whole || !parted || !json.Valid(body) {
		return nil, errUnreadable
	}
	e.hook, e.id, e.room, e.body = fields[0], fields[2], room, body
	var err error
	if e.seq, err = strconv.ParseUint(fields[1], 10, 64); err != nil {
		return nil, errUnreadable
	}
	nanos, err := strconv.ParseInt(at, 10, 64)
	if err != nil {
		return nil, errUnreadable
	}
	e.at = time.Unix(0, nanos)
	return e, nil
}

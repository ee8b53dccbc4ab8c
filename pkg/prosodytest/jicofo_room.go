package prosodytest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// jicofoRoom is a room that Jicofo is in, or is entering.
type jicofoRoom struct {
	jid     string
	main    string        // the main room, if this is a breakout room
	own     chan Stanza   // takes one: Jicofo's own presence on entering, or an error
	entered chan struct{} // closed when entering has succeeded or failed
	present bool          // Jicofo's own presence has come
	inside  bool          // entering has succeeded
	err     error         // why it failed, or why Jicofo is inside no more
	timer   *time.Timer   // runs while the room is empty; nil otherwise
	shown   []Stanza      // the extensions of Jicofo's presence

	occupants []jicofoOccupant // without Jicofo, in the order in which they came
	owner     string           // nick of the owner that AutoOwner has found or made
}

type jicofoOccupant struct{ nick, jid, affiliation, role string }

// enter returns the room at once. If Jicofo is neither inside nor entering, enter begins to enter, and first is true.
func (r *jicofoRun) enter(jid string) (room *jicofoRoom, first bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if room := r.rooms[jid]; room != nil {
		return room, false
	}
	room = &jicofoRoom{jid: jid, own: make(chan Stanza, 1), entered: make(chan struct{})}
	if r.ended {
		room.err = errors.New("not connected")
		close(room.entered)
		return room, true
	}
	r.rooms[jid] = room
	r.goroutines.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), r.o.JoinTimeout)
		defer cancel()
		main, err := r.join(ctx, room)
		r.mu.Lock()
		defer r.mu.Unlock()
		defer r.change()
		defer close(room.entered)
		if r.rooms[jid] != room {
			err = errors.Join(err, errors.New("left while entering"))
		}
		if room.err = err; err != nil {
			r.depart(room)
			r.thrown = append(r.thrown, err)
			return
		}
		room.main, room.inside = main, true
		r.begin(room)
	})
	return room, true
}

// begin starts the conference in a room that Jicofo has entered. The caller holds r.mu.
func (r *jicofoRun) begin(room *jicofoRoom) {
	r.electOwner(room)
	r.promoteAuthenticated(room)
	r.show(room,
		Stanza{Name: "etherpad", NS: "http://jitsi.org/jitmeet/etherpad", Text: strings.ToLower(rand.Text())},
		Stanza{Name: "versions", NS: nsJitmeet, Children: []Stanza{
			{Name: "component", NS: nsJitmeet, Attr: map[string]string{"name": "focus"}, Text: "1.1.0-SNAPSHOT"},
		}},
		Stanza{Name: "conference-properties", NS: nsFocus, Children: []Stanza{
			{Name: "property", NS: nsFocus, Attr: map[string]string{"key": "support-terminate-restart", "value": "true"}},
		}},
	)
	for i := range room.occupants {
		r.invite(room, room.occupants[:i+1])
	}
	if len(room.occupants) == 0 {
		r.await(room)
	}
}

// show adds extensions to Jicofo's presence in the room (ChatRoomImpl.addPresenceExtensions). The caller holds r.mu.
func (r *jicofoRun) show(room *jicofoRoom, more ...Stanza) {
	room.shown = append(room.shown, more...)
	r.send(Stanza{Name: "presence", Attr: map[string]string{"to": room.jid + "/" + r.o.User}, Children: room.shown})
}

// invite is JitsiMeetConferenceImpl.onMemberJoined for the last of the occupants: it asks what their client can do, and needs
// no answer. From the second occupant on Jicofo looks for a bridge, and shows that it has none. The caller holds r.mu.
func (r *jicofoRun) invite(room *jicofoRoom, occupants []jicofoOccupant) {
	r.send(Stanza{Name: "iq", NS: nsClient, Children: []Stanza{{Name: "query", NS: nsDiscoInfo}}, Attr: map[string]string{
		"type": "get", "id": newID(), "to": room.jid + "/" + occupants[len(occupants)-1].nick,
	}})
	noBridge := Stanza{Name: "bridgeNotAvailable", NS: nsFocus}
	if len(occupants) >= 2 && !slices.ContainsFunc(room.shown, func(s Stanza) bool { return s.Name == noBridge.Name }) {
		r.show(room, noBridge)
	}
}

// join is ChatRoomImpl.joinAs. If the room is a breakout room, join returns its main room.
func (r *jicofoRun) join(ctx context.Context, room *jicofoRoom) (main string, err error) {
	if err := r.discover(ctx, room.jid); err != nil {
		return "", err
	}
	r.send(Stanza{Name: "presence", Attr: map[string]string{"to": room.jid + "/" + r.o.User}, Children: []Stanza{{Name: "x", NS: nsMUC}}})
	select {
	case own := <-room.own:
		if own.Attr["type"] == "error" {
			return "", fmt.Errorf("entering %s: %s", room.jid, own.ErrorCondition())
		}
	case <-r.client.Done():
		return "", r.client.Err()
	case <-ctx.Done():
		return "", fmt.Errorf("entering %s: %w", room.jid, ctx.Err())
	}
	form, err := r.ownerIQ(ctx, "get", room.jid, "")
	if err != nil {
		return "", fmt.Errorf("fetching the configuration form of %s: %w", room.jid, err)
	}
	if isTrue(formField(form, "muc#roominfo_isbreakout")) {
		main = formField(form, "muc#roominfo_breakout_main_room")
	}
	_, err = r.ownerIQ(ctx, "set", room.jid, "<x xmlns='"+nsData+"' type='submit'>"+
		"<field var='FORM_TYPE'><value>http://jabber.org/protocol/muc#roomconfig</value></field>"+
		"<field var='muc#roomconfig_whois'><value>anyone</value></field></x>")
	if err != nil {
		return "", fmt.Errorf("submitting the configuration form of %s: %w", room.jid, err)
	}
	return main, nil
}

// ownerIQ sends an owner's request to a room (XEP-0045 §10), and returns its result.
func (r *jicofoRun) ownerIQ(ctx context.Context, typ, room, form string) (Stanza, error) {
	answer, err := r.client.IQ(ctx, typ, room, "<query xmlns='"+nsMUCOwner+"'>"+form+"</query>")
	if err == nil && answer.Attr["type"] != "result" {
		err = errors.New(answer.ErrorCondition())
	}
	return answer, err
}

// discover asks the service of a room whether it is a MUC service, once for each, as Smack's MultiUserChat.enter does.
func (r *jicofoRun) discover(ctx context.Context, room string) error {
	_, service, _ := strings.Cut(room, "@")
	r.mu.Lock()
	known := r.services[service]
	r.mu.Unlock()
	if known {
		return nil
	}
	answer, err := r.client.IQ(ctx, "get", service, "<query xmlns='"+nsDiscoInfo+"'/>")
	if err != nil {
		return fmt.Errorf("asking %s what it is: %w", service, err)
	}
	if !slices.ContainsFunc(answer.Child("query", nsDiscoInfo).Children, func(s Stanza) bool { return s.Attr["var"] == nsMUC }) {
		return fmt.Errorf("%s is no MUC service: %s", service, answer.ErrorCondition())
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.services[service] = true
	return nil
}

// depart leaves a room that Jicofo is in, or is entering. The caller holds r.mu.
func (r *jicofoRun) depart(room *jicofoRoom) {
	if r.rooms[room.jid] != room {
		return
	}
	r.send(Stanza{Name: "presence", Attr: map[string]string{"type": "unavailable", "to": room.jid + "/" + r.o.User}})
	if room.present { // otherwise the server sends no confirmation
		r.leaving[room.jid] = true
	}
	r.forget(room.jid)
}

// forget removes a room that Jicofo is in no more. The caller holds r.mu.
func (r *jicofoRun) forget(jid string) {
	room := r.rooms[jid]
	delete(r.rooms, jid)
	r.occupied(room)
	room.inside = false
	r.change()
	if main := r.rooms[room.main]; main != nil { // JitsiMeetConferenceImpl.breakoutConferenceEnded
		r.maybeStop(main, false)
	}
}

// await starts the InitialTimeout, after which Jicofo leaves a room that is still empty. The caller holds r.mu.
func (r *jicofoRun) await(room *jicofoRoom) {
	r.occupied(room)
	r.goroutines.Add(1)
	room.timer = time.AfterFunc(r.o.InitialTimeout, func() {
		defer r.goroutines.Done()
		r.mu.Lock()
		defer r.mu.Unlock()
		r.nobodyCame(room)
	})
}

// nobodyCame leaves the room after the InitialTimeout, if it is still empty. The caller holds r.mu.
func (r *jicofoRun) nobodyCame(room *jicofoRoom) {
	if len(room.occupants) == 0 && !r.hasBreakouts(room.jid) {
		r.depart(room)
	}
}

// occupied stops the InitialTimeout. The caller holds r.mu.
func (r *jicofoRun) occupied(room *jicofoRoom) {
	if room.timer != nil && room.timer.Stop() {
		r.goroutines.Done()
	}
	room.timer = nil
}

// hasBreakouts reports whether Jicofo is in a breakout room of this main room. The caller holds r.mu.
func (r *jicofoRun) hasBreakouts(main string) bool {
	for _, room := range r.rooms {
		if room.main == main {
			return true
		}
	}
	return false
}

// maybeStop is JitsiMeetConferenceImpl.maybeStop, called when an occupant has left or a breakout room has ended. Jicofo leaves
// an empty room; if the last occupant went to a breakout room, it waits first. The caller holds r.mu.
func (r *jicofoRun) maybeStop(room *jicofoRoom, switching bool) {
	switch {
	case !room.inside || len(room.occupants) > 0 || r.hasBreakouts(room.jid):
	case switching:
		r.await(room)
	default:
		r.depart(room)
	}
}

// presence handles a presence from a room.
func (r *jicofoRun) presence(s Stanza) {
	r.mu.Lock()
	defer r.mu.Unlock()
	jid, nick, _ := strings.Cut(s.Attr["from"], "/")
	room := r.rooms[jid]
	typ := s.Attr["type"]
	isOwn := nick == r.o.User && s.HasStatus("110")
	switch {
	case isOwn && typ == "unavailable" && r.leaving[jid]: // room, if not nil, is one that Jicofo has begun to enter since
		delete(r.leaving, jid)
		r.change()
	case room == nil:
	case typ == "error" || isOwn && typ == "":
		room.present = room.present || isOwn
		select {
		case room.own <- s:
		default: // Jicofo is in the room already
		}
	case isOwn && typ == "unavailable": // Jicofo is removed, or the room is destroyed
		room.err = errors.New("removed from the room")
		r.forget(jid)
	case nick == r.o.User:
	case typ == "":
		r.joined(room, s, nick)
	case typ == "unavailable":
		room.occupants = slices.DeleteFunc(room.occupants, func(o jicofoOccupant) bool { return o.nick == nick })
		if s.HasStatus("303") { // a change of nick; the presence with the new nick follows
			return
		}
		if nick == room.owner {
			room.owner = ""
			r.electOwner(room)
		}
		r.maybeStop(room, s.Child("status", nsClient).Text == "switch_room")
	}
}

// joined handles an occupant's presence, the first or a later one. The caller holds r.mu.
func (r *jicofoRun) joined(room *jicofoRoom, s Stanza, nick string) {
	item := s.Child("x", nsMUCUser).Child("item", nsMUCUser)
	o := jicofoOccupant{nick: nick, jid: item.Attr["jid"], affiliation: item.Attr["affiliation"], role: item.Attr["role"]}
	if i := slices.IndexFunc(room.occupants, func(o jicofoOccupant) bool { return o.nick == nick }); i >= 0 {
		room.occupants[i] = o
		return
	}
	room.occupants = append(room.occupants, o)
	r.occupied(room)
	if room.inside {
		r.electOwner(room)
		r.promoteAuthenticated(room)
		r.invite(room, room.occupants)
	}
}

// electOwner is AutoOwnerRoleManager.electNewOwner. The caller holds r.mu.
func (r *jicofoRun) electOwner(room *jicofoRoom) {
	if !r.o.AutoOwner || r.o.TrustedDomain != "" || room.main != "" || room.owner != "" || !room.inside {
		return
	}
	isOwner := func(o jicofoOccupant) bool { return o.affiliation == "owner" }
	if i := slices.IndexFunc(room.occupants, isOwner); i >= 0 {
		room.owner = room.occupants[i].nick
		return
	}
	hasVoice := func(o jicofoOccupant) bool { return o.role != "visitor" }
	if i := slices.IndexFunc(room.occupants, hasVoice); i >= 0 {
		room.owner = room.occupants[i].nick
		r.grantOwner(room, room.occupants[i])
	}
}

// promoteAuthenticated is AuthenticationRoleManager. The caller holds r.mu.
func (r *jicofoRun) promoteAuthenticated(room *jicofoRoom) {
	if !room.inside {
		return
	}
	for _, o := range room.occupants {
		if o.affiliation != "owner" && r.isAuthenticated(o.jid) {
			r.grantOwner(room, o)
		}
	}
}

// grantOwner does not wait for the answer; Jicofo only logs an error.
func (r *jicofoRun) grantOwner(room *jicofoRoom, o jicofoOccupant) {
	xml, _ := r.client.request("set", room.jid, "<query xmlns='"+nsMUCAdmin+"'><item affiliation='owner' jid='"+escaper.Replace(bare(o.jid))+"'/></query>")
	_ = r.client.Send(xml)
}

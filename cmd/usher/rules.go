package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/auth/keys"
	"github.com/xmpp-usher/usher/config"
	"github.com/xmpp-usher/usher/pkg/printable"
)

func rulesGroup() *cobra.Command {
	return group("rules", "Explain what holds in a room", rulesExplain())
}

func rulesExplain() *cobra.Command {
	var files []string
	var room, at string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "explain",
		Short: "Say which rule fits a room, and what follows",
		Long: `Say which of rooms.rules fits a room, where that rule stands, and what holds in the room at a time: whether it is open, who waits
for a host, how many may be inside, and when it ends. The code that decides real requests finds the rule. This command connects to
nothing, so it does not know who is inside.

Exit status: 0 if there is an answer, also for a room that is closed; 1 for an invalid configuration; 2 for a wrong flag.`,
		Example: `  usher rules explain -c usher.yaml --room class-7
  usher rules explain -c usher.yaml --room '[acme]standup@conference.meet.example.com' --at 2030-01-31T20:00:00+01:00`,
		Args: arguments(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, p, err := load(files, os.Environ(), new(keys.Cache))
			if err != nil {
				return err
			}
			now := time.Now()
			if at != "" {
				if now, err = moment(at, now); err != nil {
					return misused("--at %s: %w", at, err)
				}
			}
			address, err := roomAddress(c, room)
			if err != nil {
				return err
			}
			h, err := newHolding(c, p, address, now)
			if err != nil {
				return misused("--room %s: %w", room, err)
			}
			return h.write(cmd.OutOrStdout(), asJSON)
		},
	}
	configFlag(cmd, &files)
	f := cmd.Flags()
	f.SortFlags = false
	f.StringVar(&room, "room", "", "`address` of the room, or its name if usher guards one MUC service")
	f.StringVar(&at, "at", "", "`time` in question, such as 2030-01-31T09:00:00Z, or -20m from now (default now)")
	f.BoolVar(&asJSON, "json", false, "answer in JSON")
	return cmd
}

// holding is what holds in a room at a time: the answer of the command, and its JSON.
type holding struct {
	At     time.Time `json:"at"`
	Room   string    `json:"room"`
	Tenant string    `json:"tenant,omitempty"`
	// Rule is the key of the rule that fits, Source where it stands; empty if none fits.
	Rule   string `json:"rule,omitempty"`
	Source string `json:"source,omitempty"`
	Open   bool   `json:"open"`
	// Opens is when a closed room opens, Closes when an open one closes.
	Opens        *time.Time       `json:"opens,omitempty"`
	Closes       *time.Time       `json:"closes,omitempty"`
	Guests       auth.Guests      `json:"guests"`
	WaitForHost  auth.WaitForHost `json:"wait_for_host"`
	GuestRoom    bool             `json:"guest_room,omitempty"`
	MaxOccupants int              `json:"max_occupants,omitempty"`
	MaxDuration  string           `json:"max_duration,omitempty"`
	OnHostLeft   auth.OnHostLeft  `json:"on_host_left"`
	HostGrace    string           `json:"host_grace,omitempty"`
	FirstIsHost  auth.FirstIsHost `json:"first_is_host"`
	Lobby        *lobbyHolding    `json:"lobby,omitempty"` // nil without a lobby service
	// Features say who has a feature, as far as their token lets them; the token decides about the others.
	Features map[string]auth.FeatureRule `json:"features,omitempty"`
	breakout bool
	zone     *time.Location
}

type lobbyHolding struct {
	Autostart bool               `json:"autostart"`
	Bypass    []auth.Affiliation `json:"bypass"`
}

// newHolding returns what holds in the room with this address.
func newHolding(c *config.Config, p auth.Policy, address string, at time.Time) (*holding, error) {
	a := auth.New(p)
	canonical, err := a.Room(address)
	if err != nil {
		return nil, err
	}
	room, err := auth.ParseRoom(canonical.String())
	if err != nil {
		return nil, err
	}
	breakout := a.IsBreakout(room)
	if !breakout && !a.Guards(room.Service()) {
		return nil, fmt.Errorf("usher guards no rooms on %s: see rooms.services", room.Service())
	}
	at = at.Truncate(time.Second)
	r, n := a.RuleFor(room)
	h := &holding{
		At: at, Room: room.JID.String(), Tenant: room.Tenant, Open: true, Guests: r.Guests, WaitForHost: r.WaitForHost, GuestRoom: r.GuestRoom,
		MaxOccupants: r.MaxOccupants, OnHostLeft: r.OnHostLeft, FirstIsHost: r.FirstIsHost, Features: r.Features, breakout: breakout, zone: time.UTC,
	}
	if n >= 0 {
		h.Rule, h.Source = ruleKey(n), c.Rooms.Rules[n].Source
	}
	if r.MaxDuration > 0 {
		h.MaxDuration = config.PlainDuration(r.MaxDuration)
	}
	if r.HostGrace > 0 {
		h.HostGrace = config.PlainDuration(r.HostGrace)
	}
	if p.Lobby && !breakout {
		h.Lobby = &lobbyHolding{r.LobbyAutostart, append([]auth.Affiliation{}, r.LobbyBypass...)} // [] in JSON, not null
	}
	if r.Hours == nil {
		h.At = at.UTC()
		return h, nil
	}
	var opens, closes time.Time
	h.Open, opens, closes = r.Hours.Open(at)
	if r.Hours.Zone != nil {
		h.zone = r.Hours.Zone
	}
	h.At = at.In(h.zone)
	if !opens.IsZero() {
		h.Opens = &opens
	}
	if !closes.IsZero() {
		h.Closes = &closes
	}
	return h, nil
}

func (h *holding) write(w io.Writer, asJSON bool) error {
	if asJSON {
		enc := json.NewEncoder(w)
		enc.SetEscapeHTML(false)
		return enc.Encode(h)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s, %s\n", h.Room, h.day(h.At))
	switch {
	case h.breakout:
		b.WriteString("A breakout room: no rule is for it. Who may be in its main room may be in it.\n")
		_, err := io.WriteString(w, printable.Lines(b.String()))
		return err
	case h.Rule != "":
		fmt.Fprintf(&b, "%s fits: %s\n\n", h.Rule, h.Source)
	default:
		b.WriteString("No rule fits: it is as rooms and lobby say\n\n")
	}
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, row := range [][2]string{
		{"open", h.open()}, {"guests", h.guests()}, {"waiting", h.waiting()}, {"seats", h.seats()}, {"duration", h.duration()},
		{"host left", h.hostLeft()}, {"first", h.first()}, {"lobby", h.lobby()}, {"features", h.features()},
	} {
		if row[1] != "" {
			fmt.Fprintf(t, "%s\t%s\n", row[0], row[1])
		}
	}
	_ = t.Flush() // into memory
	_, err := io.WriteString(w, printable.Lines(b.String()))
	return err
}

// day writes a time as people at the place of the room say it.
func (h *holding) day(at time.Time) string {
	return at.In(h.zone).Format("Monday 2 January 2006, 15:04") + " (" + h.zone.String() + ")"
}

func (h *holding) open() string {
	switch {
	case !h.Open && h.Opens != nil:
		return "no: nobody enters, hosts included, until " + h.day(*h.Opens)
	case !h.Open:
		return "no: nobody enters, hosts included"
	case h.Closes != nil:
		return "yes, until " + h.day(*h.Closes)
	}
	return "yes, always"
}

func (h *holding) guests() string {
	if h.Guests == auth.GuestsDeny {
		return "refused: nobody enters without a token or a password"
	}
	return "enter as their virtual host says"
}

func (h *holding) waiting() string {
	who := "guests"
	switch {
	case h.GuestRoom:
		return "nobody, and guests may open the room (rooms.guest_rooms)"
	case h.WaitForHost == auth.NobodyWaits && h.Guests == auth.GuestsDeny:
		return "nobody"
	case h.WaitForHost == auth.NobodyWaits:
		return "nobody, but a guest enters only when somebody else has opened the room"
	case h.WaitForHost == auth.GuestsWait && h.Guests == auth.GuestsDeny:
		return "nobody, because there are no guests"
	case h.Guests == auth.GuestsDeny:
		who = "people with a token that makes no host"
	case h.WaitForHost == auth.MembersWait:
		who = "guests, and people with a token that makes no host"
	}
	return who + ", until a host is inside"
}

func (h *holding) seats() string {
	if h.MaxOccupants == 0 {
		return "no limit"
	}
	return fmt.Sprintf("%d; hosts always enter, and services are not counted", h.MaxOccupants)
}

func (h *holding) duration() string {
	if h.MaxDuration == "" {
		return "no limit"
	}
	return "the room ends " + h.MaxDuration + " after the first admission"
}

func (h *holding) hostLeft() string {
	waits := !h.GuestRoom && h.WaitForHost != auth.NobodyWaits && (h.WaitForHost != auth.GuestsWait || h.Guests != auth.GuestsDeny)
	switch {
	case h.OnHostLeft == auth.LeftEnd && h.HostGrace != "":
		return "the room ends " + h.HostGrace + " after the last host has left, unless one comes back"
	case h.OnHostLeft == auth.LeftEnd:
		return "the room ends when the last host leaves"
	case !waits:
		return "nothing changes, because nobody waits"
	case h.OnHostLeft == auth.LeftKeep:
		return "newcomers are let in as long as the conference lasts"
	case h.HostGrace != "":
		return "newcomers are let in for " + h.HostGrace + " more, and then wait for a host again; people inside stay"
	}
	return "newcomers wait for a host again; people inside stay"
}

func (h *holding) first() string {
	if h.FirstIsHost == auth.FirstToken {
		return "somebody who comes with a token while no host is inside is a host"
	}
	return "nobody is a host by being the first"
}

// features returns who has which feature, as far as the rule says so.
func (h *holding) features() string {
	var list []string
	for _, name := range slices.Sorted(maps.Keys(h.Features)) {
		switch h.Features[name] {
		case auth.FeatureOwners:
			list = append(list, name+" for hosts only")
		case auth.FeatureNever:
			list = append(list, name+" for nobody")
		}
	}
	return strings.Join(list, ", ")
}

func (h *holding) lobby() string {
	if h.Lobby == nil {
		return ""
	}
	how := "a host switches it on"
	if h.Lobby.Autostart {
		how = "the first host switches it on"
	}
	var pass []string
	for _, who := range []struct {
		as    auth.Affiliation
		named string
	}{{auth.Owner, "hosts"}, {auth.Member, "members"}} {
		if slices.Contains(h.Lobby.Bypass, who.as) {
			pass = append(pass, who.named)
		}
	}
	if len(pass) == 0 {
		return how + "; everybody knocks"
	}
	return how + "; " + strings.Join(pass, " and ") + " pass, and others knock"
}

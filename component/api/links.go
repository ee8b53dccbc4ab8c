package api

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/auth/store"
	"github.com/xmpp-usher/usher/pkg/printable"
)

// LinkRequest asks for a one-time link.
type LinkRequest struct {
	MintRequest
	LinkTTL int64 `json:"link_ttl,omitempty" minimum:"60" maximum:"2592000" doc:"How many seconds the link waits to be redeemed. Default 86400. The token's own time begins when it is redeemed."`
}

// defaultLinkTTL is how long a link waits that says nothing else.
const defaultLinkTTL = 24 * time.Hour

// Link is a one-time link.
type Link struct {
	URL     string    `json:"url" doc:"To be sent to one person. The first one who redeems it enters."`
	Room    string    `json:"room" doc:"As the token will have it."`
	Expires time.Time `json:"expires" doc:"When the link ends, unless it is redeemed."`
}

// promise is what the store keeps of a link: what is to be minted, and by which key.
type promise struct {
	Mint MintRequest `json:"mint"`
	Key  string      `json:"key"`
	Hash string      `json:"hash,omitempty"` // of the key, in hex; empty for the socket
}

func (s *server) linkOperation(api huma.API) {
	o := operation("make-link", http.MethodPost, "/links", "Make a one-time link, which is exchanged for a token", ScopeLinks, http.StatusNotFound)
	o.DefaultStatus = http.StatusCreated
	o.Description += " So no token sits in a chat. The link shows a button, because programs that show previews fetch what they see; a press redeems it. " +
		"If the key is removed, its links no longer count."
	huma.Register(api, o, s.makeLink)
}

// textNoLinks is for who asks for a link that nobody could open.
const textNoLinks = "this usher makes no links: set api.public_url (where people reach the API) and api.meet_url (where they reach jitsi-meet)"

func (s *server) makeLink(ctx context.Context, in *struct{ Body LinkRequest }) (*struct{ Body Link }, error) {
	if s.Links == nil || s.PublicURL == "" || s.MeetURL == "" {
		return nil, problem(http.StatusUnprocessableEntity, textNoLinks)
	}
	asked, err := s.allowed(ctx, in.Body.MintRequest)
	if err != nil {
		return nil, err
	}
	if asked.Room == everyRoom {
		return nil, problem(http.StatusUnprocessableEntity, "body.room: a link leads to one room: name it")
	}
	key := keyOf(ctx)
	waits := waiting(in.Body.LinkTTL, key.MaxTTL)
	if key.MaxTTL > 0 && waits > key.MaxTTL {
		return nil, problem(http.StatusForbidden, "the key %s makes links that end within %s: this one would wait for %s", key.Name, key.MaxTTL, waits)
	}
	if _, err := s.mint(ctx, asked); err != nil { // which shows a mistake now, rather than to the person with the link
		return nil, s.fault(err)
	}
	links, active := s.Links()
	if !active {
		return nil, s.fault(errStandsBy)
	}
	p := promise{Mint: asked, Key: key.Name}
	if !s.local {
		p.Hash = hex.EncodeToString(key.Hash[:])
	}
	value, err := json.Marshal(p)
	if err != nil {
		return nil, s.fault(err)
	}
	end := s.Now().Add(waits)
	code, err := links.Put(ctx, value, end)
	if err != nil {
		return nil, s.fault(err)
	}
	return &struct{ Body Link }{Link{URL: s.PublicURL + "/l/" + code, Room: asked.Room, Expires: end}}, nil
}

// waiting returns how long a link waits that is to wait for so many seconds, 0 for the usual time, if that is not beyond the longest.
func waiting(seconds int64, longest time.Duration) time.Duration {
	switch {
	case seconds > 0:
		return time.Duration(seconds) * time.Second
	case longest > 0:
		return min(defaultLinkTTL, longest)
	}
	return defaultLinkTTL
}

// errLinkOver means that a link does not count any more, though nobody has redeemed it.
var errLinkOver = errors.New("the key of this link, or its issuer, is gone")

// redeem exchanges a code for a token. Of several who try at once, one gets it. The error is store.ErrNoLink if the code is not that of
// a link that waits.
func (s *server) redeem(ctx context.Context, code string) (Minted, error) {
	links, active := s.Links()
	if !active {
		return Minted{}, errStandsBy
	}
	found, err := links.Find(ctx, code)
	if err != nil {
		return Minted{}, err
	}
	var p promise
	d := json.NewDecoder(bytes.NewReader(found.Value))
	d.DisallowUnknownFields() // what another version of usher has written may be a restriction
	if err := d.Decode(&p); err != nil {
		return Minted{}, errLinkOver
	}
	callOf(ctx).Key, callOf(ctx).Room = p.Key, printable.Text(p.Mint.Room) // also if the key counts no more: the log names it
	asked, err := s.promised(p)
	if err != nil {
		return Minted{}, err
	}
	// The token is made first: if that fails, the link still counts. Nobody gets it who has not redeemed the link.
	minted, err := s.mint(ctx, asked)
	if err != nil {
		return Minted{}, err
	}
	callOf(ctx).Who = printable.Text("jti=" + minted.JTI)
	first, err := links.Redeem(ctx, found)
	switch {
	case err != nil:
		return Minted{}, err
	case !first:
		return Minted{}, store.ErrNoLink
	}
	return minted, nil
}

// promised returns what is to be minted, if the key that made the link may still do that.
func (s *server) promised(p promise) (MintRequest, error) {
	room, err := auth.ParseRoomName(p.Mint.Room)
	if err != nil {
		return p.Mint, errLinkOver
	}
	if p.Hash == "" && p.Key == localKey.Name {
		return p.Mint, nil
	}
	keys := s.Keys()
	i := slices.IndexFunc(keys, func(k Key) bool { return k.Name == p.Key && hex.EncodeToString(k.Hash[:]) == p.Hash })
	if i < 0 || keys[i].expired(s.Now()) || !keys[i].may(ScopeLinks) || !keys[i].covers(room) {
		return p.Mint, errLinkOver
	}
	if _, err := inTime(&keys[i], p.Mint, s.Now()); err != nil {
		return p.Mint, errLinkOver
	}
	return p.Mint, nil
}

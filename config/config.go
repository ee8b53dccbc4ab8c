// Package config makes one typed and validated [Config] of what operators wrote, or a list of everything that is wrong with it.
//
// There are six layers. A later one wins:
//
//  1. defaults;
//  2. Prosody's own configuration (sources.prosody), read by package config/prosody;
//  3. the variables of docker-jitsi-meet (sources.docker), in a .env file or in usher's environment;
//  4. those of MiroTalk SFU (sources.mirotalk), likewise: the accounts of its Host Protection, and who needs one;
//  5. usher.yaml;
//  6. usher's own variables, USHER_….
//
// Three rules hold for every key:
//
//   - Nothing is accepted silently. A key that does not exist, a key without effect where it stands, and two keys that contradict
//     each other are problems. Each is reported with its key, its place and what to do. What usher leaves out of a source
//     beneath usher.yaml is a note.
//   - The variable of a key is USHER_ and the key in upper case, with an underscore for each dot and dash:
//     rooms.wait_for_host is USHER_ROOMS_WAIT_FOR_HOST. Lists are separated by commas, and entries of tables are written as
//     value=meaning. An empty variable counts as not set.
//   - A secret is never printed; see [Secret]. The two exceptions are [Import] and [Config.ProsodyLines].
//
// Prosody's files can also be known without being a source (prosody.files), after an import. Then they set nothing, and are read
// only to write the lines for Prosody and to compare.
//
// The one table of keys is in keys.go: README.md is made from it, and the tests hold [Example] against it. How reading goes: file
// and environment are checked against the table (shape.go) and become settings, each with its place (file.go, environ.go). The
// sources (sources.go, docker.go, mirotalk.go, prosody.go, meet.go) fill in what nobody above has set. build.go, rooms.go, vhost.go,
// issuer.go, portal.go, users.go and store.go make the typed Config, and settings.go says where each value comes from. lines.go writes what Prosody must say, by
// the table of package config/gate, with provider.go for how people log in; compare.go compares, doubts.go finds
// names that are probably misspelled, and existing.go has what Prosody's files say. modules.go is the one table of what becomes of Prosody's modules, in both directions.
//
// viper holds the values by path, lays the defaults under them, and decodes them into raw (UnmarshalExact). It reads neither files
// nor the environment: it would lose the lines of values and the case of keys, could not tell an empty value from none, and knows
// no domain as part of a variable's name.
package config

import (
	_ "embed"
	"time"

	"mellium.im/xmpp/jid"
)

// Example is the annotated configuration file for an operator to start from. It is complete except for the files with its secrets.
//
//go:embed usher.example.yaml
var Example []byte

// Config is a valid configuration.
type Config struct {
	XMPP  XMPP
	Rooms Rooms
	// VHosts are the virtual hosts with people who may ask for a room, in the order of the file; those that only the environment
	// names come last. There is at least one, and no two have the same domain.
	VHosts []VHost
	// Lobby says when Jitsi's lobby is switched on, and who passes it. It counts only if Rooms.Lobby is set.
	Lobby Lobby
	// Jicofo is the focus behind usher.
	Jicofo Jicofo
	// Sessions says whether people who are let in by a token get a session, with which the same client may ask again
	// without the token. Default true.
	Sessions bool
	// Login is the login that the web page offers to people who need a token and have none. By default it is what the sources and
	// the vhosts say. If they say nothing it is empty, which counts as [LoginPassword].
	Login Login
	Store Store
	// AdminSocket is the path of the socket by which usher's commands talk to the running usher; empty for the default: see
	// [Config.Socket].
	AdminSocket string
	// Ops says where usher shows what it does: metrics, health and the live page.
	Ops Ops
	// API says who may steer usher by HTTP, and where.
	API API
	// Portal says where hosts log in, and who they are.
	Portal Portal
	// Audit says where usher writes each decision and each call of the API.
	Audit Audit
	// Webhooks are the addresses that hear of what happens, in the order of the file. No two have the same name.
	Webhooks []Webhook
	Log      Log
	// Warnings say what is allowed but probably not meant, such as a secret that everybody can read.
	Warnings []Problem
	// Notes say what usher leaves out of the sources, and why.
	Notes []Problem
	// Meet are the configurations of the web page among the sources.
	Meet []Meet
	// Settings are all keys with their values and where these come from, in the order of usher.example.yaml.
	Settings []Setting
	// Files are the files and folders that were read: if one changes, the configuration may change.
	Files []string

	prosody      *existing // among the sources, or nil
	prosodyFiles []string  // prosody.files
}

// XMPP says how to connect to the XMPP server as a component (XEP-0114).
type XMPP struct {
	// Server is the host and port of the server's component listener. Default 127.0.0.1:5347. The connection is not
	// encrypted, so it belongs on this machine or on a private network; elsewhere is a warning.
	Server string
	// Domain is usher's own address, such as focus.meet.example.com. It is none of the vhosts and MUC services.
	Domain jid.JID
	// Secret is the component's secret, as the server has it.
	Secret Secret
}

// Rooms says which rooms are guarded, and how.
type Rooms struct {
	// Services are the domains of the guarded MUC services; at least one.
	Services []jid.JID
	// Breakout and Lobby are the MUC services of Jitsi's breakout rooms and lobbies; zero where there are none.
	Breakout, Lobby jid.JID
	// WaitForHost says who must wait until a host is inside. Default [WaitGuests].
	WaitForHost WaitForHost
	// GuestRooms are patterns, as of [path.Match], of room names (the part before the @) in which guests need no host.
	// Default none.
	GuestRooms []string
	// HostAffiliation is what a host becomes in the room: [Owner], the default, or [Admin], which moderates but cannot
	// change the room's configuration.
	HostAffiliation Affiliation
	// Enforcement says what keeps out people who never asked usher. Default [MembersOnly].
	Enforcement Enforcement
	// GuardInterval is how often usher looks at a room in use in front of Jicofo: 1 s to 5 min. Default 5 s. Without Jicofo usher
	// is inside and hears of every change.
	GuardInterval time.Duration
	// WaitHold is how long usher holds the request of somebody who waits, to answer it the moment a host is inside: 0 (not at all)
	// to 90 s. Default 10 s. WaitHoldJitsi is the same for Jitsi's clients, which set no time limit on a request. Default 60 s.
	WaitHold, WaitHoldJitsi time.Duration
	// AfterKick says what becomes of somebody that a moderator has kicked or banned. The zero value, the default, lets them ask again.
	AfterKick AfterKick
	// Rules say what holds in single rooms, in place of what is above. The first that fits counts. Default none.
	Rules []Rule
}

// AfterKick says when somebody may come back after a moderator has put them out of a room. The zero value is at once.
type AfterKick struct {
	// Bar keeps them out until the room ends.
	Bar bool
	// Wait is how long they are kept out; 0 for not at all.
	Wait time.Duration
}

// Rule says what holds in the rooms that it fits. What it does not say is as [Rooms] and [Lobby] have it.
type Rule struct {
	// Match is a pattern, as of [path.Match], of the room's name; empty for any name. Tenant is the tenant of the rooms, "*" for
	// any; empty for rooms without a tenant. At least one of them is set.
	Match, Tenant string
	// WaitForHost says who must wait; empty means that [Rooms.WaitForHost] says so.
	WaitForHost WaitForHost
	// Guests says whether guests may enter; empty for whatever the virtual hosts say.
	Guests Guests
	// MaxOccupants is how many people may be inside, hosts apart, who always enter. 0 for no limit.
	MaxOccupants int
	// Hours are when anybody may enter; nil for always.
	Hours *Hours
	// MaxDuration is how long after the first admission the room ends. 0 for no limit.
	MaxDuration time.Duration
	// OnHostLeft says what happens when the last host has left. Default [LeftLock].
	OnHostLeft OnHostLeft
	// HostGrace is how long usher waits for a host to come back before it does that. Default 0.
	HostGrace time.Duration
	// FirstIsHost says whether somebody who is no host becomes one by being the first. Default [FirstNever].
	FirstIsHost FirstIsHost
	// Autostart is that of [Lobby]; empty where the rule says nothing. Bypass is that of [Lobby] if HasBypass is set.
	Autostart LobbyAutostart
	Bypass    []Affiliation
	HasBypass bool
	// Features say who has which feature of Jitsi; the token decides about the others.
	Features map[string]Feature
	// Source is where the rule begins: "usher.yaml:14".
	Source string
}

// Guests says whether guests may enter a room.
type Guests string

// Whether guests may enter.
const (
	GuestsAllow Guests = "allow"
	GuestsDeny  Guests = "deny"
)

// OnHostLeft says what happens when the last host has left a room.
type OnHostLeft string

// What happens then.
const (
	LeftKeep OnHostLeft = "keep" // nothing: newcomers are let in as long as the conference lasts
	LeftLock OnHostLeft = "lock" // newcomers wait for a host again; those inside stay
	LeftEnd  OnHostLeft = "end"  // the room ends
)

// FirstIsHost says who becomes a host by being the first in a room.
type FirstIsHost string

// Who becomes a host so.
const (
	FirstNever FirstIsHost = "never" // nobody
	FirstToken FirstIsHost = "token" // somebody who comes with a token while no host is inside
)

// Hours are the times of a week when a room is open.
type Hours struct {
	// Days are the days on which the room opens, each once; at least one.
	Days []time.Weekday
	// From and Until are times of such a day, counted from midnight as clocks on the wall show it: 0 to 24 h, never equal. Until is on
	// the next day if it is before From.
	From, Until time.Duration
	Zone        *time.Location
}

// Enforcement says what keeps out people who never asked usher. The server lets in anybody with an affiliation.
type Enforcement string

// The ways to keep them out.
const (
	// MembersOnly makes every room members-only for life, which a stock server can do. If Jitsi's lobby plugin is loaded, clients
	// then show the lobby as switched on in every room.
	MembersOnly Enforcement = "members-only"
	// Module leaves members-only to the lobby: usher's module for Prosody, mod_usher, refuses people without an affiliation in a
	// room that is open. See package config/prosody/module.
	Module Enforcement = "module"
)

// Lobby says when Jitsi's lobby is switched on, and who passes it.
type Lobby struct {
	// Autostart says who switches the lobby on without being asked. Default [AutostartNever].
	Autostart LobbyAutostart
	// Bypass says who passes a lobby that is on: [Owner], which includes admins, and [Member]. Default both.
	Bypass []Affiliation
}

// LobbyAutostart says when the lobby is switched on without being asked for.
type LobbyAutostart string

// When the lobby is switched on.
const (
	AutostartHost  LobbyAutostart = "host"  // from the first host in the room on
	AutostartNever LobbyAutostart = "never" // when a moderator does it
)

// Jicofo is Jitsi's conference focus, if usher stands in front of one.
type Jicofo struct {
	// JID is its bare JID; zero where usher is the focus itself.
	JID jid.JID
	// ForwardToken passes the client's token on to Jicofo, which reads it, unverified, for visitors. Default false.
	ForwardToken bool
	// EnforceRoles takes the affiliation owner away from people if neither usher nor a host made them owners. Default false.
	EnforceRoles bool
}

// Store says where usher keeps what must outlive the process: sessions, grants, and held requests. It is a file, or memory, or a Redis.
type Store struct {
	// Path is a file in a folder that exists. usher makes the file. A relative name in the configuration counts from the folder of
	// the file that has it. Empty for the default: see [Config.StoreFile].
	Path string
	// Memory reports that nothing is to outlive the process (store.path: memory).
	Memory bool
	// MaxSize is how large the file may become, or how much memory usher may use for it. 0 is the default: 1 GiB for a file,
	// 256 MiB in memory.
	MaxSize Size
	// URL is the address of a Redis that several ushers share, as its client library has it; empty for none. It may contain a
	// password.
	URL Secret
	// Password is that of the Redis, if it stands in a file of its own; empty for none.
	Password Secret
	// CA has the certificates that sign the Redis's, as PEM; empty for those of the system.
	CA []byte
	// Prefix begins all keys in the Redis. Default usher.
	Prefix string
	// Shard names the server that this usher is beside, if there are several with the same XMPP.Domain: of the ushers with one domain and
	// one Shard, one is active. Default "".
	Shard string
}

// Shared reports whether several ushers can use the store at once.
func (s Store) Shared() bool { return s.URL.Reveal() != "" }

// WaitForHost says who must wait until a host is inside the room.
type WaitForHost string

// Who waits for the host.
const (
	WaitGuests  WaitForHost = "guests"  // guests
	WaitMembers WaitForHost = "members" // guests, and token holders that are not hosts
	WaitNever   WaitForHost = "never"   // nobody
)

// Affiliation is an affiliation of XEP-0045 §5.2 that usher gives.
type Affiliation string

// The affiliations that the configuration may name.
const (
	Owner  Affiliation = "owner"
	Admin  Affiliation = "admin"
	Member Affiliation = "member"
)

// VHost says what usher knows of the people of one virtual host.
type VHost struct {
	Domain jid.JID
	Kind   Kind
	// AllowEmptyToken lets people without a token in as guests. Only on a [KindToken] vhost. Default false.
	AllowEmptyToken bool
	// DefaultAffiliation is what a valid token gets if it asks for nothing and its issuer says nothing: [Owner], the default, or
	// [Member].
	DefaultAffiliation Affiliation
	// Issuers sign the tokens that count here: at least one on a [KindToken] vhost, unless it is that of the portal, which signs with a key
	// ([SignKey]), any number on a [KindGuest] one, none on the others. No two have the same AppID.
	Issuers []Issuer
	// Ending is how rights end that tokens give, unless their issuer says something else.
	Ending Ending
}

// Kind says how the people of a virtual host prove who they are.
type Kind string

// The kinds of virtual hosts.
const (
	KindToken   Kind = "token"   // by a token
	KindGuest   Kind = "guest"   // not at all; a token counts if the vhost has an issuer
	KindTrusted Kind = "trusted" // by a password, to the server: they are hosts
	KindService Kind = "service" // recorders and gateways: let in, never counted as host
)

// Issuer says which tokens of one issuer to accept. It has either AppSecrets or sources of public keys, never both.
type Issuer struct {
	// AppID names the issuer. Never empty.
	AppID string
	// AcceptedIssuers are the values of the claim iss that are accepted; "*" stands for any. Default AppID alone.
	AcceptedIssuers []string
	// AcceptedAudiences are the values of the claim aud that are accepted; "*" stands for any. Default "*".
	AcceptedAudiences []string
	// Algorithms are the JWS names of the signature algorithms that are accepted, all fit for the kind of key.
	// Default HS256 with AppSecrets, RS256 with public keys.
	Algorithms []string
	// AppSecrets are the secrets shared with the issuer. Each of them counts, so that they can be changed one after the other.
	AppSecrets []Secret
	// PublicKeyFiles are the paths of PEM files, each readable and without a private key, or of folders with such files. A
	// path that is relative in the configuration is resolved against the folder of the file that names it.
	PublicKeyFiles []string
	// JWKSFile is the path of a JWK Set (RFC 7517 §5), JWKSURL the address of one. Empty for none.
	JWKSFile, JWKSURL string
	// ASAPKeyServer is the base address of Jitsi's key server: the key of a kid is <base>/<hex sha256(kid)>.pem.
	// Empty for none.
	ASAPKeyServer string
	// CacheKeysURL is the address of a map of kid to certificate, as Firebase has it, or of a JWK Set. Empty for none.
	CacheKeysURL string
	// KeysMaxStale is how long fetched keys stay in use when they should be fetched again and cannot be. Default 24 h.
	KeysMaxStale time.Duration
	// Claims says where the token has claims for which Jitsi has a fixed place.
	Claims ClaimMap
	// DefaultAffiliation is what the issuer's tokens get if they ask for nothing: [Owner] or [Member]. Empty means that the
	// virtual host decides.
	DefaultAffiliation Affiliation
	// Tenant is the one tenant with the rooms that the issuer's tokens can open; empty for any.
	Tenant string
	// RequireRoom refuses tokens without the claim room. Default true.
	RequireRoom bool
	// RequireExp refuses tokens without the claim exp. Default true.
	RequireExp bool
	// DomainVerification checks the claim sub, which must be the domain, the tenant, or "*". Default true.
	DomainVerification bool
	// NoWildcard refuses "*" in the claims room and sub, and a pattern of rooms (context.room.regex). Default false.
	NoWildcard bool
	// Leeway is how far the clocks of issuer and usher may differ: 0 to 60 s. Default 10 s.
	Leeway time.Duration
	// OneTime lets each token in on one machine only. Default false.
	OneTime bool
	Ending
}

// Ending says how the right ends that a token gives. Each value is that of the issuer, or else that of its virtual host.
type Ending struct {
	// OnExpiry says what becomes of people inside when their token has ended. Default [ExpiryKeep].
	OnExpiry OnExpiry
	// ExpiryGrace is how long after that they may stay, with [ExpiryRemove]: 0 to 24 h. Default 0.
	ExpiryGrace time.Duration
	// Reuse says what happens when a token comes to a room in which it is already. Default [ReuseAllow].
	Reuse Reuse
	// ReuseOf says what makes two tokens the same for that. Default [ReuseOfToken].
	ReuseOf ReuseOf
}

// OnExpiry says what becomes of people inside when their token has ended.
type OnExpiry string

// What becomes of them.
const (
	ExpiryKeep   OnExpiry = "keep"   // they stay
	ExpiryRemove OnExpiry = "remove" // they are put out
)

// Reuse says what happens when a token comes to a room in which it is already.
type Reuse string

// What happens then.
const (
	ReuseAllow   Reuse = "allow"   // both are inside
	ReuseReplace Reuse = "replace" // the one inside is put out
	ReuseRefuse  Reuse = "refuse"  // the one outside is refused
)

// ReuseOf says what makes two tokens the same.
type ReuseOf string

// What makes them the same.
const (
	ReuseOfToken ReuseOf = "token" // the token itself
	ReuseOfSub   ReuseOf = "sub"   // the claim sub, if it names a person
)

// ClaimMap says where the tokens of an issuer have claims for which Jitsi has a fixed place. The zero value of a claim is that
// fixed place.
type ClaimMap struct {
	Affiliation, ID, Name, Group, Room, Tenant Claim
}

// Claim is a place in a token.
type Claim struct {
	// Path is the names that lead there, joined by dots. A dot that belongs to a name has a backslash before it.
	Path string
	// Values say what the values there mean; "*" stands for all others. Empty means that they mean what they say.
	Values map[string]string
}

// Check looks at an issuer of a virtual host and returns everything that is wrong. It knows what this package does not, such as
// what a PEM file must contain, or from which addresses keys may come. [Load] calls it once for each issuer, in the order of
// [Config.VHosts] and [VHost.Issuers], even if the configuration has other problems. Then wrong values may be missing from the
// issuer, and the domain of the virtual host may be zero.
type Check func(vhost jid.JID, issuer Issuer) []Fault

// Fault is one thing that is wrong with an issuer.
type Fault struct {
	// Key is the key in question below the issuer, with slashes: "jwks_url", "public_key_files/1", "claims/affiliation_values".
	Key string
	// Entry is the entry of the table at the key. Empty for the whole key.
	Entry string
	// Text says what is wrong and what to do. It never contains a secret. Only the first fault of a key is reported.
	Text string
}

// Log says what is logged, and how.
type Log struct {
	// Level is the least level that is logged: debug, info (the default), warn or error.
	Level string
	// Format is console (the default), for people, or json.
	Format string
}

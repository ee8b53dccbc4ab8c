// Package config turns what operators wrote into one typed and validated [Config], or into a list of everything that is
// wrong with it.
//
// There are five layers, of which the later counts:
//
//  1. defaults;
//  2. Prosody's own configuration (sources.prosody), read by package config/prosody;
//  3. the variables of docker-jitsi-meet (sources.docker), in a .env file or in usher's environment;
//  4. usher.yaml;
//  5. usher's own variables, USHER_….
//
// Three rules hold for every key:
//
//   - Nothing is taken silently. A key that does not exist, a key that has no effect where it stands, and two keys
//     that contradict each other are problems, each reported with its key, its place and what to do. What a source
//     beneath usher.yaml has and usher leaves out is a note.
//   - The variable of a key is USHER_ and the key in upper case, with every dot and dash an underscore:
//     rooms.wait_for_host is USHER_ROOMS_WAIT_FOR_HOST. Lists are separated by commas, entries of tables written as
//     value=meaning. An empty variable counts as not set.
//   - A secret is never printed; see [Secret]. The two exceptions are asked for: [Import] and [Config.ProsodyLines].
//
// Prosody's files can also be known without being a source (prosody.files), after an import: they set nothing then, and are
// read only for the lines that are written for Prosody, and to compare.
//
// The keys are those of [Example], which explains them to the operator. How reading goes: file and environment are
// checked against the one table of keys (keys.go) and become settings, each with its place (file.go, environ.go);
// what the sources say (sources.go, with docker.go and prosody.go) fills in what nobody above has set; viper decodes them
// over the defaults; validate.go makes the typed Config of them, settings.go tells where each value is from. What
// Prosody must say for a Config is in gate.go, how people log in there in provider.go; existing.go has what its files say. What
// becomes of Prosody's modules, in both directions, is the one table of modules.go.
package config

import (
	_ "embed"
	"time"

	"mellium.im/xmpp/jid"
)

// Example is the annotated configuration file, from which an operator starts. It is complete but for its secrets,
// which it takes from files that the operator makes.
//
//go:embed usher.example.yaml
var Example []byte

// Config is a valid configuration.
type Config struct {
	XMPP  XMPP
	Rooms Rooms
	// VHosts are the virtual hosts with people who may ask for a room, in the order of the file; those named by the
	// environment only come last. There is at least one, and no two have the same domain.
	VHosts []VHost
	// Lobby says how Jitsi's lobby goes together with the host. It counts only where Rooms.Lobby is set.
	Lobby Lobby
	// Jicofo is the focus that usher stands before.
	Jicofo Jicofo
	// Sessions says whether people who are let in by a token get a session, with which the same client may ask again
	// without the token. Default true.
	Sessions bool
	// Login is the login that the web page has to offer to those who need a token and have none. Default: what the
	// sources and the vhosts say of it, and [LoginPassword] where they say nothing; then it is empty.
	Login Login
	Store Store
	Log   Log
	// Warnings tell of what is allowed but probably not meant, such as a secret that everybody can read.
	Warnings []Problem
	// Notes tell of what the sources have that usher leaves out, and why.
	Notes []Problem
	// Meet are the configurations of the web page among the sources.
	Meet []Meet
	// Settings are all keys with their values and where these are from, in the order of usher.example.yaml.
	Settings []Setting
	// Files are the files and folders that were read: if one changes, so may the configuration.
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
	// Enforcement says what keeps those out who never asked usher. Default [MembersOnly].
	Enforcement Enforcement
	// GuardInterval is how often a room in use is looked at behind Jicofo: 1 s to 5 min. Default 5 s. Without Jicofo
	// usher is inside and hears of every change.
	GuardInterval time.Duration
	// WaitHold is how long a request of somebody who waits for the host is held, to be answered the moment the host is
	// inside: 0, which is not at all, to 90 s. Default 10 s. WaitHoldJitsi is the same for Jitsi's clients, which set no time
	// limit on a request. Default 60 s.
	WaitHold, WaitHoldJitsi time.Duration
}

// Enforcement says what keeps those out who never asked usher, while the server lets anybody with an affiliation in.
type Enforcement string

// The ways to keep them out.
const (
	// MembersOnly makes every room members-only for life, as a stock server knows it. Where Jitsi's lobby plugin is
	// loaded, clients show the lobby as switched on then, in every room.
	MembersOnly Enforcement = "members-only"
	// Module leaves members-only to the lobby: Prosody's module muc_affiliated_only refuses people without an affiliation in a
	// room that is open. See package config/prosody/module.
	Module Enforcement = "module"
)

// Lobby says how Jitsi's lobby goes together with the host.
type Lobby struct {
	// Autostart says who switches the lobby on without being asked. Default [AutostartNever].
	Autostart LobbyAutostart
	// Bypass is who passes a lobby that is on: any of [Owner], which stands for admins, too, and [Member]. Default both.
	Bypass []Affiliation
}

// LobbyAutostart says when the lobby is switched on without being asked for.
type LobbyAutostart string

// When the lobby is switched on.
const (
	AutostartHost  LobbyAutostart = "host"  // from the first host in the room on
	AutostartNever LobbyAutostart = "never" // when a moderator does it
)

// Jicofo is Jitsi's conference focus, which usher stands before.
type Jicofo struct {
	// JID is its bare JID; zero where usher is the focus itself.
	JID jid.JID
	// ForwardToken passes the client's token on to Jicofo, which reads it, unverified, for visitors. Default false.
	ForwardToken bool
	// EnforceRoles takes the affiliation owner away from people that neither usher nor a host made owners. Default false.
	EnforceRoles bool
}

// Store says where the things are kept that must outlive the process: sessions, grants, requests that are held.
type Store struct {
	// Path is a file, made if there is none, in a folder that is there; relative in the configuration, it is resolved
	// against the folder of the file that names it. Empty for the default: see [Config.StoreFile].
	Path string
	// Memory tells that nothing is to outlive the process (store.path: memory).
	Memory bool
	// MaxSize is how large the file may become, or how much memory may be used. 0 is the default: 1 GiB for a file, 256 MiB in
	// memory.
	MaxSize Size
}

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

// VHost says what is known of the people of one virtual host.
type VHost struct {
	Domain jid.JID
	Kind   Kind
	// AllowEmptyToken lets people without a token in as guests. Only on a [KindToken] vhost. Default false.
	AllowEmptyToken bool
	// DefaultAffiliation is what a valid token gets that asks for nothing, unless its issuer says otherwise: [Owner], the
	// default, or [Member].
	DefaultAffiliation Affiliation
	// Issuers sign the tokens that count here: at least one on a [KindToken] vhost, any number on a [KindGuest] one,
	// none on the others. No two have the same AppID.
	Issuers []Issuer
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
	// AppSecrets are the secrets shared with the issuer; each is tried, so that they can be changed one after the other.
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
	// KeysMaxStale is how long fetched keys are used on after they should have been fetched anew and could not be.
	// Default 24 h.
	KeysMaxStale time.Duration
	// Claims says where the token has what Jitsi has a fixed place for.
	Claims ClaimMap
	// DefaultAffiliation is what the issuer's tokens get that ask for nothing: [Owner] or [Member]. Empty means what the virtual
	// host says.
	DefaultAffiliation Affiliation
	// Tenant is the one tenant whose rooms the issuer's tokens can open; empty for any.
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
}

// ClaimMap says where the tokens of an issuer have what Jitsi has a fixed place for; the zero value of a claim means that
// fixed place.
type ClaimMap struct {
	Affiliation, ID, Name, Group, Room, Tenant Claim
}

// Claim is a place in a token.
type Claim struct {
	// Path is the names that lead there, joined by dots; a dot that belongs to a name has a backslash before it.
	Path string
	// Values say what the values there mean; "*" stands for all others. Empty means that they mean what they say.
	Values map[string]string
}

// Check looks at an issuer of a virtual host with knowledge that this package does not have, such as what a PEM file must have in
// it or which addresses keys may come from, and returns everything that is wrong. [Load] calls it once for each issuer, in
// the order of [Config.VHosts] and [VHost.Issuers], also in a configuration that has other problems. Then what is wrong may
// be left out of the issuer or be empty, and the domain of the virtual host may be zero.
type Check func(vhost jid.JID, issuer Issuer) []Fault

// Fault is one thing that is wrong with an issuer.
type Fault struct {
	// Key is the key in question below the issuer, with slashes: "jwks_url", "public_key_files/1", "claims/affiliation_values".
	Key string
	// Entry is the entry of the table at the key that is meant. Empty for all of it.
	Entry string
	// Text says what is wrong and what to do. It never contains a secret. Of several faults of a key only the first is told.
	Text string
}

// Log says what is logged, and how.
type Log struct {
	// Level is the least level that is logged: debug, info (the default), warn or error.
	Level string
	// Format is console (the default), for people, or json.
	Format string
}

package config

import (
	"cmp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/xmpp-usher/usher/config/gate"
	"github.com/xmpp-usher/usher/config/prosody"
	"github.com/xmpp-usher/usher/config/prosody/module"
)

// ProsodyModule says what usher knows of a module of Prosody: whether it decides beside usher, and what the operator had by it.
type ProsodyModule struct {
	// Name is its name in modules_enabled.
	Name   string
	Stands Stand
	// Verdict says what becomes of it beside usher.
	Verdict Verdict
	// Does says what it does, beginning with the verb.
	Does string
	// Sets are the keys that a source sets by naming the module. Keys with a star are set for each virtual host with tokens, keys of
	// the lobby only if there is one.
	Sets []ModuleKey
	// As says what it becomes, if no key says that.
	As string
	// Note says what is different with usher, or what a person may wonder about; "" for nothing.
	Note string
	// Wider says what usher allows that the module did not; "" for nothing.
	Wider string
	// Open says what it does for people outside in rooms that are not members-only; "" for nothing. With rooms.enforcement: module
	// rooms can be so, and then the module decides as well.
	Open string
	// Token says that it reads the token of the connection, which is in the session only with authentication = "token". What usher's
	// module puts there, the features, the user and the group, is not enough for it.
	Token bool
	// Options are its options that have a meaning of their own.
	Options []ModuleOption
}

// ModuleOption is an option of a module. It counts if it is set to anything but false.
type ModuleOption struct {
	Name string
	// Sets, Note and Wider are as those of [ProsodyModule].
	Sets        []ModuleKey
	Note, Wider string
}

// ModuleKey is a key, such as "vhosts.*.no_wildcard", and the value that it is set to.
type ModuleKey struct {
	Key   string
	Value any
}

// String returns the key and its value as YAML.
func (k ModuleKey) String() string {
	value := Setting{value: k.Value}.node(false)
	text, _ := yaml.Marshal(value)
	return k.Key + ": " + strings.TrimSuffix(string(text), "\n")
}

// Verdict says what becomes of a module beside usher.
type Verdict string

// The verdicts.
const (
	// Mapped: usher does its work by keys of its own, at least as strictly, and usher's lines for Prosody disable it.
	Mapped Verdict = "mapped"
	// Rival: it decides by other rules than usher who enters, gets an affiliation or a role, or knocks. usher's lines disable it.
	Rival Verdict = "rival"
	// Harmless: it stays. It may refuse or delay people, but lets nobody in and gives nobody more.
	Harmless Verdict = "harmless"
	// Ours is usher's own module.
	Ours Verdict = "usher's own"
)

// Stand says where a module acts.
type Stand string

// Where modules act.
const (
	OnMUC   Stand = "MUC service"
	OnVHost Stand = "virtual host"
	OnAll   Stand = "all hosts"
	OnOwn   Stand = "component" // of its own: Component "..." "name"
	OnLogin Stand = "login"     // authentication = "..."
)

// Becomes returns what the module becomes: the keys that it sets, or words, or "".
func (m ProsodyModule) Becomes() string {
	var keys []string
	for _, k := range m.Sets {
		keys = append(keys, k.String())
	}
	if m.As != "" {
		keys = append(keys, m.As)
	}
	return strings.Join(keys, ", ")
}

// gone reports whether usher's lines disable the module.
func (m ProsodyModule) gone() bool { return m.Verdict == Mapped || m.Verdict == Rival }

// The keys of modules that do the same work.
var (
	// byDefaultMember is for modules by which a token makes a member unless it says owner.
	byDefaultMember = ModuleKey{"vhosts.*.default_affiliation", string(Member)}
	// lobbyForAll is for modules by which everybody knocks at the lobby of each new room.
	lobbyForAll = []ModuleKey{
		{"lobby.autostart", string(AutostartHost)}, {"lobby.bypass", []string{}}, {"rooms.wait_for_host", string(WaitMembers)},
	}
)

// Words that several modules share.
const (
	// passesFirst is what lobby.bypass: [] allows, and Jitsi's lobby does not.
	passesFirst  = "a host enters without knocking while no other host is inside"
	byAnyClaim   = "A token makes a host here, too, if it says context.user.affiliation admin, or moderator true at its top: there it made a member."
	refusesLater = "it may refuse people after usher has let them in"
	opensAgain   = "usher opens the room again for the next host"
	asksNoMatrix = "usher asks no Matrix server. An issuer can put the power level into the token (claims.affiliation)."
)

// modules are the modules that usher knows: all of Jitsi (jitsi-meet resources/prosody-plugins, August 2026), of
// jitsi-contrib/prosody-plugins (May 2026), those that the templates of docker-jitsi-meet name (August 2026), those that come with
// Prosody 0.12 and 13, and a few others from the field. Each was read for what it refuses, admits, gives, switches, destroys, counts,
// rewrites and delays. If several set the same key, the first in the table counts.
var modules = slices.Concat([]ProsodyModule{
	// usher does the work of these itself.
	{
		Name: "token_verification", Stands: OnMUC, Verdict: Mapped, As: "vhosts.*.kind: token, with its issuer",
		Does: "refuses people by its own rules, guests above all",
		Options: []ModuleOption{{
			Name:  "token_verification_require_token_for_moderation",
			Wider: "a guest that a host makes a moderator may change the settings of the room",
		}},
	},
	{
		Name: "token_affiliation", Stands: OnMUC, Verdict: Mapped, Sets: []ModuleKey{byDefaultMember},
		Does: "gives affiliations by the claims of the token",
		Note: byAnyClaim,
	},
	{
		Name: "token_affiliation_legacy", Stands: OnMUC, Verdict: Mapped, Sets: []ModuleKey{byDefaultMember},
		Does: "gives affiliations by the claims of the token, after the join",
		Note: byAnyClaim,
	},
	{
		// github.com/nvonahsen/jitsi-token-moderation-plugin
		Name: "token_moderation", Stands: OnMUC, Verdict: Mapped, Sets: []ModuleKey{byDefaultMember},
		Does: "makes owners and members by a claim of the token, and keeps others from making owners",
		Note: "A token makes a host here, too, if context.user says so: there it had to say moderator true at its top. " +
			"Hosts can make others hosts here.",
	},
	{
		Name: "token_no_wildcard", Stands: OnMUC, Verdict: Mapped, Sets: []ModuleKey{{"vhosts.*.no_wildcard", true}},
		Does: "refuses tokens for more than one room",
	},
	{
		Name: "token_owner_party", Stands: OnMUC, Verdict: Mapped,
		Sets:  []ModuleKey{{"rooms.wait_for_host", string(WaitMembers)}, byDefaultMember},
		Does:  "refuses people who come before an owner, by the token of the connection, and ends rooms that the last owner has left",
		Wider: "a room goes on when its last host has left: there it ended after party_check_timeout, as here by a rule with on_host_left: end and host_grace",
	},
	{
		Name: "lobby_deactivate", Stands: OnMUC, Verdict: Mapped, Sets: []ModuleKey{{"lobby.autostart", string(AutostartNever)}},
		Does: "switches the lobby off after the first join",
		Note: "People wait for a host as rooms.wait_for_host says, and not at a lobby. A host's token with context.room.lobby true switches one on.",
	},
	{
		Name: "secure_domain_lobby_bypass", Stands: OnMUC, Verdict: Mapped, Sets: []ModuleKey{{"lobby.bypass", []string{string(Owner)}}},
		Does: "makes members of people with a login at Jicofo, so that they pass the lobby",
		Note: "All hosts pass: there only those with a BOSH connection did.",
	},
	{
		Name: "lobby_autostart", Stands: OnMUC, Verdict: Mapped,
		Sets: lobbyForAll,
		Does: "switches the lobby on in each new room",
		Note: "Before the first host is inside, people wait instead of knocking. As in each lobby here, " + passesFirst + ".",
	},
	{
		Name: "token_lobby_autostart", Stands: OnMUC, Verdict: Mapped,
		Sets: lobbyForAll,
		Does: "switches the lobby on in each new room, and off again by a token",
		Note: "The claim context.room.lobby_autostart is not read: context.room.lobby false in a host's token leaves the lobby off. " +
			"As in each lobby here, " + passesFirst + ".",
	},
	{
		Name: "lobby_autostart_on_owner", Stands: OnMUC, Verdict: Mapped,
		Sets: []ModuleKey{{"lobby.autostart", string(AutostartHost)}, {"lobby.bypass", []string{}}},
		Does: "switches the lobby on when somebody becomes owner, and makes another one owner when the last has left",
		Note: "When the last host leaves, nobody becomes one. As in each lobby here, " + passesFirst + ".",
	},
	{
		Name: "token_lobby_bypass", Stands: OnMUC, Verdict: Mapped, Sets: []ModuleKey{{"lobby.bypass", []string{}}},
		As:   "the claim context.user.lobby_bypass",
		Does: "makes members of people by a claim of the token, so that they pass the lobby",
		Note: "Without the claim, too, " + passesFirst + ".",
	},
	{
		Name: "token_lobby_bypass_for_initiator", Stands: OnMUC, Verdict: Mapped, Sets: []ModuleKey{{"lobby.bypass", []string{}}},
		Does: "makes the first owner by token an owner of the room, past the lobby",
		Note: "Not only the first: " + passesFirst + ".",
	},
	{
		Name: "token_security_ondemand", Stands: OnMUC, Verdict: Mapped, Sets: []ModuleKey{{"lobby.bypass", []string{}}},
		As:   "the claims context.room.lobby and context.user.lobby_bypass",
		Does: "switches lobbies and sets passwords by the claims of the token",
		Note: "The claim context.user.security_bypass is not read: with context.user.lobby_bypass people pass the lobby. Without it, too, " + passesFirst + ".",
		Wider: "the claim context.room.password is not read, so these rooms have no password; and context.room.lobby counts only in " +
			"the token of a host, so there is no lobby before one has come",
	},
	{
		Name: "muc_wait_for_host", Stands: OnMUC, Verdict: Mapped, Sets: []ModuleKey{{"rooms.wait_for_host", string(WaitGuests)}},
		Does: "decides itself who is a host, and makes them owners",
		Note: "There anybody with a token ended the waiting. Here a host must be inside, and not only have been.",
		Options: []ModuleOption{{
			Name: "wait_for_host_disable_auto_owners", Sets: []ModuleKey{byDefaultMember},
			Note: "As it made no owners, a token that does not say owner makes a member, so somebody needs one that does.",
		}},
	},
	{
		Name: "client_proxy", Stands: OnOwn, Verdict: Mapped, As: "xmpp.domain and jicofo.jid",
		Does: "passes all conference requests on to Jicofo",
	},

	// These decide beside usher, and no key has their meaning.
	{
		Name: "token_lobby_ondemand", Stands: OnMUC, Verdict: Rival,
		Does: "switches the lobby on by a token, and makes members of all other tokens",
		Wider: "the claim context.user.lobby is not read, so people with it do not knock: let their token say context.user.lobby_bypass " +
			"false, and a host's token context.room.lobby true",
	},
	{
		Name: "muc_allowners", Stands: OnMUC, Verdict: Rival,
		Does: "makes everybody owner, and keeps usher from taking that back",
		Note: "Guests are no owners here.",
		Options: []ModuleOption{{
			Name:  "allowner_issuers",
			Wider: "tokens of other issuers can make hosts in moderated rooms, too",
		}},
	},
	{
		Name: "muc_flip", Stands: OnMUC, Verdict: Rival,
		Does: "gives the second device of somebody inside the affiliation of the first, past lobby and password",
		Note: "People who change the device enter with their token like everybody. The first device stays inside until it leaves, unless token_reuse is replace.",
	},
	{
		Name: "fmuc", Stands: OnMUC, Verdict: Rival,
		Does: "makes visitors and moderators of people by what the main server says",
		Note: "It belongs on servers for visitors. usher does not guard the rooms there.",
	},
	{
		Name: "matrix_affiliation", Stands: OnMUC, Verdict: Rival, Sets: []ModuleKey{byDefaultMember},
		Does: "makes members of all people but the owners of a Matrix room",
		Note: asksNoMatrix,
	},
	{
		// github.com/matrix-org/prosody-mod-auth-matrix-user-verification
		Name: "matrix_power_sync", Stands: OnMUC, Verdict: Rival, Sets: []ModuleKey{byDefaultMember},
		Does: "gives affiliations by the power level in a Matrix room, and keeps others from making owners",
		Note: asksNoMatrix,
	},
	{
		Name: "matrix_lobby_bypass", Stands: OnMUC, Verdict: Rival,
		Does: "makes members of people of a Matrix room, past lobby and password",
		Note: "They knock at a lobby like others, as lobby.bypass says.",
	},
	{
		// github.com/prosody/prosody-modules
		Name: "muc_auto_member", Stands: OnMUC, Verdict: Rival,
		Does: "makes a member of everybody who joins, for good",
	},
	{
		Name: "test_observer_http", Stands: OnVHost, Verdict: Rival,
		Does: "gives affiliations and switches lobbies for anybody who asks by HTTP: it is for tests only",
	},

	// These may stay. They may keep people out, delay them, or end rooms.
	{
		Name: "muc_max_occupants", Stands: OnMUC, Verdict: Harmless,
		Does: "refuses joins to a room that is full",
		Note: refusesLater + "; without Jicofo, usher's focus counts unless muc_access_whitelist has it. A rule with max_occupants in its place " +
			"refuses before the join, and lets hosts into a full room",
	},
	{
		Name: "per_room_max_occupants", Stands: OnMUC, Verdict: Harmless,
		Does: "sets the limit of muc_max_occupants for single rooms",
		Note: "rules with match or tenant, and max_occupants, can take its place",
	},
	{
		Name: "muc_rate_limit", Stands: OnMUC, Verdict: Harmless,
		Does: "holds joins back that are more than muc_rate_joins a second",
		Note: "in a crowd, people who are held back for half a minute must ask usher again",
	},
	{
		Name: "muc_resource_validate", Stands: OnMUC, Verdict: Harmless,
		Does: "refuses nicks that are not letters, digits and underscores, and changes of nicks",
		Note: refusesLater,
	},
	{
		Name: "muc_filter_access", Stands: OnMUC, Verdict: Harmless,
		Does: "drops joins from domains that are not in muc_filter_whitelist, without an answer",
		Note: "it may drop people after usher has let them in; without Jicofo, usher's own domain must be in the list",
	},
	{
		Name: "muc_auth_ban", Stands: OnVHost, Verdict: Harmless, Token: true,
		Does: "closes connections by tokens that a web service has banned",
		Note: "people with such a token never reach usher, as long as authentication stays token. usher asks no web service: \"usher revoke\" takes tokens back",
	},
	{
		Name: "owner_restricted", Stands: OnMUC, Verdict: Harmless,
		Does: "ends a room that has had no owner for role_timeout seconds",
		Note: "it counts owners only, so rooms.host_affiliation must stay owner. A rule with on_host_left: end and host_grace in its place counts all hosts",
	},
	{
		Name: "time_restricted", Stands: OnMUC, Verdict: Harmless,
		Does: "ends each room after conference_max_minutes",
		Note: opensAgain + ". A rule with max_duration can take its place",
	},
	{
		Name: "per_room_time_restricted", Stands: OnMUC, Verdict: Harmless,
		Does: "ends rooms after a time of their own",
		Note: opensAgain + ". Rules with match or tenant, and max_duration, can take its place",
	},
	{
		Name: "reservations", Stands: OnVHost, Verdict: Harmless,
		Does: "asks a reservation system before usher hears of the request",
		Note: "it is asked before usher: usher never hears of people who are refused there, and people that usher refuses may have " +
			"made a reservation; it may also end rooms, set passwords and switch lobbies on",
	},
	{
		Name: "visitors", Stands: OnVHost, Verdict: Harmless,
		Does: "copies rooms to servers for visitors",
		Note: "usher does not guard the rooms on servers for visitors",
	},
	{
		Name: "visitors_component", Stands: OnOwn, Verdict: Harmless,
		Does: "refuses, in rooms with visitors, people who have not been promoted, and fills the password in for those who have",
	},
	{
		Name: "firewall", Stands: OnAll, Verdict: Harmless,
		Does: "drops and refuses what its scripts say",
		Note: refusesLater,
	},
	{
		Name: "muc_mam", Stands: OnMUC, Verdict: Harmless,
		Does: "keeps what is said in rooms, and tells it to people who may enter",
		Open: "tells people outside what is said in a room that is not members-only",
	},
	{
		Name: "muc_limits", Stands: OnMUC, Verdict: Harmless,
		Does: "refuses joins and messages of people without affiliation that are too many a second",
	},
	{
		Name: "muc_restrict_rooms", Stands: OnMUC, Verdict: Harmless,
		Does: "refuses joins to rooms by their names",
		Note: refusesLater,
	},
	{
		Name: "muc_ban_ip", Stands: OnMUC, Verdict: Harmless,
		Does: "refuses addresses from which somebody was banned",
		Note: refusesLater,
	},

	// usher works together with these.
	{
		Name: "muc_lobby_rooms", Stands: OnVHost, Verdict: Harmless, As: "rooms.lobby",
		Does: "is Jitsi's lobby: it lets in people that a moderator admits, that know the password of the room, or that muc_lobby_whitelist names",
	},
	{
		Name: "muc_breakout_rooms", Stands: OnVHost, Verdict: Harmless, As: "rooms.breakout",
		Does: "makes breakout rooms, which have the affiliations of their main room",
	},
	{
		Name: "persistent_lobby", Stands: OnVHost, Verdict: Harmless,
		Does: "keeps an empty room while somebody is at its lobby",
	},
	{
		Name: "muc_meeting_id", Stands: OnMUC, Verdict: Harmless,
		Does: "names each conference, holds joins until the focus is inside, and refuses changes to affiliations of a focus",
	},
	{
		Name: "muc_domain_mapper", Stands: OnMUC, Verdict: Harmless,
		Does: "rewrites the addresses of tenants' rooms, which usher understands in both spellings",
	},
	{
		Name: "muc_hide_all", Stands: OnMUC, Verdict: Harmless,
		Does: "hides rooms from people outside",
	},
	{
		Name: "muc_password_whitelist", Stands: OnMUC, Verdict: Harmless,
		Does: "fills the password in for those on its list, who still need usher",
	},
	{
		Name: "muc_password_check", Stands: OnVHost, Verdict: Harmless,
		Does: "tells a program by HTTP whether a password is right",
	},
	{
		Name: "muc_end_meeting", Stands: OnAll, Verdict: Harmless,
		Does: "ends rooms for a program that asks by HTTP",
	},
	{
		Name: "muc_kick_participant", Stands: OnVHost, Verdict: Harmless,
		Does: "removes people for a program that asks by HTTP",
	},
	{
		Name: "muc_cleanup_backend_services", Stands: OnMUC, Verdict: Harmless,
		Does: "ends rooms in which only recorders are left",
	},
	{
		Name: "room_destroy", Stands: OnVHost, Verdict: Harmless,
		Does: "ends rooms when Jitsi's other plugins ask for it",
	},
	{
		Name: "end_conference", Stands: OnOwn, Verdict: Harmless,
		Does: "ends the room for a moderator inside",
	},
	{
		Name: module.Name, Stands: OnMUC, Verdict: Ours, Sets: []ModuleKey{{"rooms.enforcement", string(Module)}},
		Does: "keeps out people without an affiliation, also while a room is open; tells usher what happens, and does what usher says",
	},
	{
		Name: gate.ModuleAlias, Stands: OnMUC, Verdict: Ours, Sets: []ModuleKey{{"rooms.enforcement", string(Module)}},
		Does: "is the name that the module usher had before, and loads it",
	},
},
	// The rest of Jitsi and jitsi-contrib.
	harmless(OnMUC, [][2]string{
		{"access_token", "gives a token to programs that ask people to prove that they are inside"},
		{"filter_messages", "refuses messages in rooms where a moderator has said so"},
		{"force_async_transcription", "writes a setting of transcription into the room's metadata"},
		{"jibri_autostart", "starts a recording for the first person that may start one"},
		{"measure_message_count", "counts messages"},
		{"muc_displayname", "hides or fixes the names that people show"},
		{"muc_limit_messages", "refuses messages beyond a number"},
		{"muc_transcription_filter", "strips requests for transcription from people who may not have one"},
		{"polls", "keeps polls"},
		{"rate_limit", "slows connections that log in or send too often"},
		{"test_observer", "tells tests what happens"},
	}),
	harmless(OnVHost, [][2]string{
		{"av_moderation", "names the component that lets moderators mute people"},
		{"conference_duration", "tells how long a conference has been going on"},
		{"features_identity", "names features to clients"},
		{"filter_iq_jibri", "refuses recordings to people with a token that does not allow them"},
		{"filter_iq_rayo", "refuses telephone calls to people with a token that does not allow them"},
		{"frozen_nick", "writes the token's name over the one that a client shows"},
		{"jibri_session", "tells recorders who started them"},
		{"jiconop", "tells clients about features"},
		{"limits_exception", "lifts limits for the focus and bridges"},
		{"muc_census", "counts people in rooms"},
		{"muc_jigasi_invite", "calls a telephone for a program that asks by HTTP"},
		{"muc_size", "counts people in rooms"},
		{"presence_identity", "writes the token's user into presences"},
		{"proxybased_external_services", "names TURN servers to clients"},
		{"room_metadata", "names the component that keeps settings of rooms"},
		{"shadow_ban", "hides the messages of people from others"},
		{"short_lived_token", "gives people inside a token for other services"},
		{"speakerstats", "names the component that counts speaking time"},
		{"system_chat_message", "sends messages for a program that asks by HTTP"},
		{"turncredentials", "names TURN servers to clients"},
		{"turncredentials_http", "names TURN servers to programs"},
	}),
	harmless(OnAll, [][2]string{
		{"certs_s2soutinjection", "trusts the certificates of servers for visitors"},
		{"debug_traceback", "writes a trace at a signal"},
		{"http_health", "tells whether Prosody is up"},
		{"jitsi_permissions", "tells people inside which features they have"},
		{"jitsi_session", "keeps what a client's address says of room and token"},
		{"log_ringbuffer", "keeps the last lines of the log"},
		{"measure_stanza_counts", "counts stanzas"},
		{"roster_command", "is a command of prosodyctl, and not to be loaded"},
		{"s2s_whitelist", "refuses other servers"},
		{"s2sout_override", "names the addresses of other servers"},
		{"secure_interfaces", "takes connections on some addresses for encrypted"},
		{"trace", "reports what bridges are asked"},
	}),
	harmless(OnOwn, [][2]string{
		{"audio_translation_component", "passes on requests for translation"},
		{"av_moderation_component", "lets moderators mute people"},
		{"event_sync_component", "tells a web service who comes and goes"},
		{"filesharing_component", "keeps a list of files"},
		{"polls_component", "keeps polls"},
		{"room_metadata_component", "keeps settings of rooms"},
		{"speakerstats_component", "counts speaking time"},
	}),
	harmless(OnLogin, [][2]string{
		{"auth_cyrus", "asks for a password"},
		{"auth_hybrid_matrix_token", "takes tokens, and those of a Matrix server, which usher does not ask"},
		{"auth_jitsi-anonymous", "lets anybody connect: kind: guest"},
		{"auth_jitsi-shared-secret", "asks for one password, whatever the name"},
		{"auth_matrix_user_verification", "takes tokens of a Matrix server, which usher does not ask"},
		{"auth_token", "takes tokens, and no others connect: kind: token"},
	}),

	// Others from the field, and those that come with Prosody.
	harmless(OnMUC, [][2]string{
		{"muc", "is the MUC service itself"},
		{"muc_log", "keeps what was said in rooms"},
		{"muc_moderation", "lets moderators take messages back"},
		{"muc_unique", "makes up names for rooms"},
		{"vcard_muc", "keeps pictures of rooms"},
	}),
	prosodys(OnLogin, "lets people connect", "auth_anonymous auth_insecure auth_internal_hashed auth_internal_plain auth_ldap"),
	prosodys(OnAll, "comes with Prosody, and has nothing to do with who enters a room", `account_activity adhoc admin_adhoc admin_shell
		admin_socket admin_telnet announce authz_internal blocklist bookmarks bosh c2s carbons cloud_notify component cron csi
		csi_simple debug_reset debug_sql debug_stanzas dialback disco external_services flags groups http http_altconnect
		http_errors http_file_share http_files http_openmetrics invites invites_adhoc invites_register iq lastactivity legacyauth
		limits mam message mimicking motd net_multiplex offline pep pep_plus pep_simple ping posix presence private proxy65 pubsub
		register register_ibr register_limits roster s2s s2s_auth_certs s2s_auth_dane_in s2s_bidi saslauth scansion_record
		server_contact_info server_info smacks stanza_debug storage_internal storage_memory storage_none storage_sql
		storage_xep0227 time tls tokenauth tombstones turn_external unknown uptime user_account_management vcard vcard4
		vcard_legacy version watchregistrations websocket welcome windows`),
)

// harmless returns modules that may stay, each with what it does.
func harmless(stands Stand, does [][2]string) []ProsodyModule {
	rows := make([]ProsodyModule, len(does))
	for i, row := range does {
		rows[i] = ProsodyModule{Name: row[0], Stands: stands, Verdict: Harmless, Does: row[1]}
	}
	return rows
}

// prosodys returns modules that may stay and do the same.
func prosodys(stands Stand, does, names string) []ProsodyModule {
	var rows []ProsodyModule
	for _, name := range strings.Fields(names) {
		rows = append(rows, ProsodyModule{Name: name, Stands: stands, Verdict: Harmless, Does: does})
	}
	return rows
}

// Modules returns the modules that usher knows, by verdict and name.
func Modules() []ProsodyModule {
	verdicts := []Verdict{Mapped, Rival, Ours, Harmless}
	return slices.SortedFunc(slices.Values(modules), func(a, b ProsodyModule) int {
		return cmp.Or(cmp.Compare(slices.Index(verdicts, a.Verdict), slices.Index(verdicts, b.Verdict)), cmp.Compare(a.Name, b.Name))
	})
}

// UnknownModule says what to do about a module that usher does not know.
func UnknownModule(name string) string {
	return "the module " + name + " is not known to usher: look whether it lets people in, gives affiliations or roles, or switches the " +
		"lobby or members-only"
}

// moduleNamed returns what usher knows of a module.
func moduleNamed(name string) (m ProsodyModule, known bool) {
	i := slices.IndexFunc(modules, func(m ProsodyModule) bool { return m.Name == name })
	if i < 0 {
		return ProsodyModule{}, false
	}
	return modules[i], true
}

// decides says what a module decides in the place of usher, where it is loaded; "" for nothing.
func (c *Config) decides(s *prosody.Section, name string) (does string) {
	switch m, _ := moduleNamed(name); {
	case m.gone() && (s.Component || m.Stands == OnVHost):
		return m.Does
	case s.Component && c.Rooms.Enforcement == Module:
		return m.Open
	}
	return ""
}

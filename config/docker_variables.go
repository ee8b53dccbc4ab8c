package config

import (
	"slices"
	"strings"
)

// DockerVariable is a variable of docker-jitsi-meet.
type DockerVariable struct {
	Name string
	// Default is its default there. It counts if the source docker is used and the variable is not set.
	Default string
	// Key is the key that it sets, with MAIN, GUEST, HIDDEN and AUTH for the virtual hosts; "modules" if it names modules of
	// Prosody, which set keys as [Modules] says; empty if usher does not act on it.
	Key string
	// Note says what becomes of it, or why usher does not act on it.
	Note string
}

// DockerVariables are the variables of docker-jitsi-meet that have to do with who may enter. It is the one list of what each of them
// sets (docker-compose.yml, the templates in rootfs/defaults and the scripts of its images, state of August 2026). The domains
// are independent of each other: XMPP_DOMAIN alone changes none of the others. [Config.Notes] names a variable that is set and that
// usher does not act on, and one with a prefix of dockerPrefixes that is neither here nor in dockerElsewhere.
var DockerVariables = slices.Concat([]DockerVariable{
	{"XMPP_DOMAIN", "meet.jitsi", "vhosts.MAIN", "the main virtual host; usher's own address is focus. before it (xmpp.domain)"},
	{"XMPP_SERVER", dockerServer, "xmpp.server", "the server's name in the containers' network, to which port 5347 is added"},
	{"XMPP_MUC_DOMAIN", "muc.meet.jitsi", "rooms.services", "the MUC service that is guarded"},
	{"XMPP_GUEST_DOMAIN", "guest.meet.jitsi", "vhosts.GUEST", "the virtual host of guests, with ENABLE_AUTH and ENABLE_GUESTS"},
	{"XMPP_AUTH_DOMAIN", "auth.meet.jitsi", "jicofo.jid", "where Jicofo logs in, as focus"},
	{"XMPP_HIDDEN_DOMAIN", "hidden.meet.jitsi", "vhosts.HIDDEN", "the virtual host of recorders, with ENABLE_RECORDING or ENABLE_TRANSCRIPTIONS"},
	{"XMPP_RECORDER_DOMAIN", "", "vhosts.HIDDEN", "its older name; counts where XMPP_HIDDEN_DOMAIN is not set"},
	{"ENABLE_AUTH", "0", "vhosts.MAIN.kind", "without it the main virtual host is one of guests"},
	{"ENABLE_GUESTS", "0", "vhosts.GUEST.kind", "kind: guest"},
	{"AUTH_TYPE", "internal", "vhosts.MAIN.kind", "jwt: token; internal and ldap: trusted, which is Jitsi's secure domain"},
	{"PROSODY_AUTH_TYPE", "", "vhosts.MAIN.kind", "counts instead of AUTH_TYPE"},
	{"PROSODY_GUEST_AUTH_TYPE", "jitsi-anonymous", "vhosts.GUEST.kind", "token: a token counts there, too"},
	{"JWT_APP_ID", "", "vhosts.MAIN.app_id", ""},
	{"JWT_APP_SECRET", "", "vhosts.MAIN.app_secret", "not used beside JWT_ASAP_KEYSERVER, as by Jitsi"},
	{"JWT_ACCEPTED_ISSUERS", "", "vhosts.MAIN.accepted_issuers", ""},
	{"JWT_ACCEPTED_AUDIENCES", "", "vhosts.MAIN.accepted_audiences", ""},
	{"JWT_ASAP_KEYSERVER", "", "vhosts.MAIN.asap_key_server", ""},
	{"JWT_SIGN_TYPE", "", "vhosts.MAIN.algorithms", ""},
	{"JWT_ALLOW_EMPTY", "0", "vhosts.MAIN.allow_empty_token", ""},
	{"JWT_ENABLE_DOMAIN_VERIFICATION", "false", "vhosts.MAIN.domain_verification", ""},
	{"XMPP_MUC_MODULES", "", byModules, "on the MUC service that is guarded"},
	{"XMPP_BREAKOUT_MUC_MODULES", "", byModules, "on the service of breakout rooms"},
	{"XMPP_LOBBY_MUC_MODULES", "", byModules, "on the service of lobbies"},
	{"XMPP_MODULES", "", byModules, "on the virtual hosts"},
	{"GLOBAL_MODULES", "", byModules, "on all virtual hosts"},
	{"JWT_TOKEN_AUTH_MODULE", "token_verification", byModules, "on the MUC service, with AUTH_TYPE=jwt"},
	{"WAIT_FOR_HOST_DISABLE_AUTO_OWNERS", "false", "vhosts.MAIN.default_affiliation", "member, beside the module muc_wait_for_host"},
	{tokenAuthURLVariable, "", "login", "url; without it none, unless a virtual host is trusted: the web page opens this address for a login"},
	{"ENABLE_LOBBY", "true", "rooms.lobby", "lobby. before XMPP_DOMAIN"},
	{"ENABLE_BREAKOUT_ROOMS", "true", "rooms.breakout", "breakout. before XMPP_DOMAIN"},
	{"ENABLE_RECORDING", "0", "vhosts.HIDDEN.kind", "kind: service"},
	{"ENABLE_TRANSCRIPTIONS", "0", "vhosts.HIDDEN.kind", "kind: service"},
	{"ENABLE_JAAS_COMPONENTS", "0", "vhosts." + jaasHost + ".kind", "kind: service, for the phones of JaaS: Prosody verifies their tokens"},
	{"JIGASI_XMPP_PASSWORD", "", "vhosts.AUTH.kind", "kind: service, with ENABLE_AUTH and without ENABLE_GUESTS: Jigasi enters from there then, and as a guest otherwise"},
	{"JIGASI_XMPP_USER", "jigasi", "", "an account on XMPP_AUTH_DOMAIN: see JIGASI_XMPP_PASSWORD"},
	{"JIBRI_XMPP_USER", "jibri", "", "an account on XMPP_AUTH_DOMAIN, which enters no conference room"},
	{"JIBRI_RECORDER_USER", "recorder", "", "an account on XMPP_HIDDEN_DOMAIN, all of which enter rooms that are open"},
	{"JIGASI_TRANSCRIBER_USER", "transcriber", "", "an account on XMPP_HIDDEN_DOMAIN, all of which enter rooms that are open"},
	{enableAutoOwner, "true", "", "Jicofo's: must be 0, because usher makes the owners"},
	{jicofoEnableAuth, "", "", "Jicofo's: must be 0, because usher decides who opens a room; ENABLE_AUTH counts where it is not set"},
	{"JWT_AUTH_TYPE", "token", "", "Prosody's module: usher does its work"},
	{globalConfig, "", "", "lines of Prosody's configuration: name the file that they end up in, by sources.prosody"},
	{"PROSODY_MODE", "client", "", "client is the server that usher guards; visitors and brewery are servers of another kind"},
},
	unused("the web page's: it then uses JaaS instead of this server (conferenceRequestUrl and all addresses), and nobody asks usher", "JAAS_APP_ID"),
	unused("Jicofo's", "ENABLE_MODERATOR_CHECKS JICOFO_AUTH_TYPE JICOFO_AUTH_LIFETIME ENABLE_AUTO_LOGIN"),
	unused("Jicofo's: here kind: service says it", "JICOFO_TRUSTED_DOMAINS"),
	unused("the web page's", "ENABLE_AUTH_DOMAIN XMPP_BOSH_URL_BASE"),
	unused("of the module muc_allowners, which makes everybody owner: give these issuers a virtual host, or a claim map, of their own", "JWT_ACCEPTED_ALLOWNER_ISSUERS"),
	unused("the port of clients; usher connects to the port of components, xmpp.server", "XMPP_PORT"),
	unused("rooms of bridges and recorders, which nobody else enters", "XMPP_INTERNAL_MUC_DOMAIN"),
	unused("Prosody's modules, in rooms that nobody else enters", "XMPP_INTERNAL_MUC_MODULES"),
	unused("Prosody's modules, of a component without rooms", "XMPP_SPEAKERSTATS_MODULES"),
	unused("lines of Prosody's configuration: name the file that they end up in, by sources.prosody", "XMPP_CONFIGURATION XMPP_MUC_CONFIGURATION"),
	unused("Prosody's module counts people; a rule with max_occupants can take its place", "MAX_PARTICIPANTS"),
	unused("Prosody's module, for those who are owners already", "ENABLE_AV_MODERATION ENABLE_END_CONFERENCE"),
	unused("rooms of tenants are understood in any case", "ENABLE_SUBDOMAINS"),
	unused("the way that clients connect", "ENABLE_XMPP_WEBSOCKET"),
	unused("Jicofo's: visitors' rooms are on other servers, which usher does not guard", "ENABLE_VISITORS"),
	unused("as ENABLE_VISITORS", "VISITORS_MAX_PARTICIPANTS VISITORS_MAX_VISITORS_PER_NODE VISITORS_XMPP_AUTH_DOMAIN VISITORS_XMPP_DOMAIN VISITORS_XMPP_PORT VISITORS_XMPP_SERVER JICOFO_VISITORS_REQUIRE_MUC_CONFIG PROSODY_VISITOR_INDEX PROSODY_VISITORS_MUC_PREFIX PROSODY_VISITORS_S2S_VHOSTS"),
	unused("Jicofo takes conference requests by HTTP then, past usher: nobody gets in by one, but a room may be opened", "JICOFO_ENABLE_REST"),
	unused("Prosody's module asks a reservation system, before usher is asked", "PROSODY_RESERVATION_ENABLED"),
	unused("as PROSODY_RESERVATION_ENABLED", "PROSODY_RESERVATION_REST_BASE_URL"),
	unused("Prosody's module looks at nicks", "PROSODY_ENABLE_MUC_RESOURCE_VALIDATE"),
	unused("as PROSODY_ENABLE_MUC_RESOURCE_VALIDATE", "PROSODY_MUC_RESOURCE_VALIDATE_ANONYMOUS_STRICT PROSODY_MUC_RESOURCE_VALIDATE_ANON_METHODS"),
	unused("Prosody's", "PROSODY_ENABLE_RATE_LIMITS PROSODY_ENABLE_FILTER_MESSAGES"),
	unused("usher asks no Matrix server: it takes tokens that an issuer has signed", "MATRIX_UVS_URL"),
	unused("as MATRIX_UVS_URL", "MATRIX_UVS_ISSUER MATRIX_UVS_AUTH_TOKEN MATRIX_UVS_SYNC_POWER_LEVELS MATRIX_LOBBY_BYPASS"),
	unused("Prosody asks the directory", "LDAP_URL"),
)

// unused returns variables that usher does not act on, all for the same reason.
func unused(note, names string) (all []DockerVariable) {
	for _, name := range strings.Fields(names) {
		all = append(all, DockerVariable{Name: name, Note: note})
	}
	return all
}

// Names that are used in more than one place.
const (
	enableAutoOwner  = "ENABLE_AUTO_OWNER"
	jicofoEnableAuth = "JICOFO_ENABLE_AUTH"
	globalConfig     = "GLOBAL_CONFIG"

	tokenAuthURLVariable = "TOKEN_AUTH_URL"
	jaasHost             = "jigasi.meet.jitsi" // conf.d/jitsi-meet.cfg.lua, whatever XMPP_DOMAIN is
)

// dockerPrefixes begin the names of docker-jitsi-meet's variables that may have to do with who enters.
var dockerPrefixes = []string{"XMPP_", "JWT_", "ENABLE_", "GLOBAL_", "PROSODY_", "JICOFO_", "VISITORS_"}

// dockerElsewhere are the variables of docker-jitsi-meet with these prefixes that have nothing to do with who enters: they are for
// the web page, the media, the logs and the limits. usher ignores them without a word.
var dockerElsewhere = strings.Fields(`
	ENABLE_ADAPTIVE_MODE ENABLE_AUDIO_PROCESSING ENABLE_AUDIO_TRANSLATION ENABLE_AUTOMATIC_GAIN_CONTROL ENABLE_CALENDAR
	ENABLE_CLOSE_PAGE ENABLE_CODEC_AV1 ENABLE_CODEC_H264 ENABLE_CODEC_OPUS_RED ENABLE_CODEC_VP8 ENABLE_CODEC_VP9 ENABLE_E2EPING
	ENABLE_FILE_RECORDING_SHARING ENABLE_HSTS ENABLE_HTTP_REDIRECT ENABLE_ICE_RESTART ENABLE_ICE_RESTART_ON_NETWORK_CHANGE
	ENABLE_IPV6 ENABLE_JVB_XMPP_SERVER ENABLE_LETSENCRYPT ENABLE_LIVESTREAMING ENABLE_LIVESTREAMING_DATA_PRIVACY_LINK
	ENABLE_LIVESTREAMING_HELP_LINK ENABLE_LIVESTREAMING_TERMS_LINK ENABLE_LIVESTREAMING_VALIDATOR_REGEXP_STRING
	ENABLE_LOAD_TEST_CLIENT ENABLE_LOCAL_RECORDING_NOTIFY_ALL_PARTICIPANT ENABLE_LOCAL_RECORDING_SELF_START
	ENABLE_NOISY_MIC_DETECTION ENABLE_NO_AUDIO_DETECTION ENABLE_OCTO ENABLE_OPUS_RED ENABLE_P2P ENABLE_PREJOIN_PAGE ENABLE_REMB
	ENABLE_REQUIRE_DISPLAY_NAME ENABLE_S2S ENABLE_SERVICE_RECORDING ENABLE_SHARED_DOCUMENT_RANDOM_NAME ENABLE_SIMULCAST
	ENABLE_STATS_D ENABLE_STATS_ID ENABLE_STEREO ENABLE_TALK_WHILE_MUTED ENABLE_TCC ENABLE_VIRTUAL_BACKGROUND_V2 ENABLE_VLA
	ENABLE_WELCOME_PAGE

	JICOFO_AUTH_PASSWORD JICOFO_BRIDGE_REGION_GROUPS JICOFO_COMPONENT_SECRET JICOFO_CONF_INITIAL_PARTICIPANT_WAIT_TIMEOUT JICOFO_CONF_MAX_AUDIO_SENDERS
	JICOFO_CONF_MAX_VIDEO_SENDERS JICOFO_CONF_SINGLE_PARTICIPANT_TIMEOUT JICOFO_CONF_SOURCE_SIGNALING_DELAYS
	JICOFO_CONF_SSRC_REWRITING JICOFO_CONF_STRIP_SIMULCAST JICOFO_ENABLE_BRIDGE_HEALTH_CHECKS JICOFO_ENABLE_HEALTH_CHECKS
	JICOFO_ENABLE_ICE_FAILURE_DETECTION JICOFO_ENABLE_LOAD_REDISTRIBUTION JICOFO_ENABLE_MID JICOFO_HEALTH_CHECKS_USE_PRESENCE
	JICOFO_ICE_FAILURE_INTERVAL JICOFO_ICE_FAILURE_MIN_ENDPOINTS JICOFO_ICE_FAILURE_THRESHOLD JICOFO_LOG_FILE JICOFO_MAX_MEMORY
	JICOFO_MULTI_STREAM_BACKWARD_COMPAT JICOFO_OCTO_REGION JICOFO_RESTART_REQUEST_INTERVAL JICOFO_RESTART_REQUEST_MAX
	JICOFO_REST_PORT JICOFO_SENTRY_DSN JICOFO_TRANSLATION_CF_ACCESS_CLIENT_ID JICOFO_TRANSLATION_CF_ACCESS_CLIENT_SECRET
	JICOFO_TRANSLATION_URL_TEMPLATE

	PROSODY_ADMINS PROSODY_C2S_LIMIT PROSODY_C2S_REQUIRE_ENCRYPTION PROSODY_DISABLE_C2S_LIMIT PROSODY_DISABLE_S2S_LIMIT
	PROSODY_ENABLE_METRICS PROSODY_ENABLE_RECORDING_METADATA PROSODY_ENABLE_S2S PROSODY_ENABLE_STANZA_COUNTS PROSODY_HTTP_PORT
	PROSODY_LIMIT_MESSAGES_CHECK_TOKEN PROSODY_LOG_CONFIG PROSODY_METRICS_ALLOWED_CIDR PROSODY_RATE_LIMIT_ALLOW_RANGES
	PROSODY_RATE_LIMIT_CACHE_SIZE PROSODY_RATE_LIMIT_LOGIN_RATE PROSODY_RATE_LIMIT_SESSION_RATE PROSODY_RATE_LIMIT_TIMEOUT
	PROSODY_REGION_NAME PROSODY_S2S_LIMIT PROSODY_S2S_PORT PROSODY_TRUSTED_PROXIES

	XMPP_ENV_NAME XMPP_SERVER_S2S_PORT XMPP_TRUST_ALL_CERTS`)

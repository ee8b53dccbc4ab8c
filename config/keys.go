package config

import (
	"slices"
	"strings"
	"time"
)

//go:generate go test -run TestReadme -update .

// key is a row of the table of keys. The table is the one place that says which keys there are: a key of raw without a row stops
// the program at once (shapeOf), and the tests hold README.md and usher.example.yaml against it.
type key struct {
	// name is the key as the operator writes it. DOMAIN stands for a virtual host. The keys below vhosts.DOMAIN.issuers can also
	// stand on the virtual host itself, if it has one issuer.
	name string
	// def is the default, as in the environment. unset says in words what counts where the key is not set and there is no default, or
	// when the default counts.
	def, unset string
	// example is another value, as in usher.yaml.
	example string
	// since is the release that has it first; empty for the first release.
	since string
	// means says what the key means, for README.md.
	means string
}

// keys is the table. It does not name the sections, which have no values.
var keys = slices.Concat(generalKeys, portalKeys, laterKeys)

var generalKeys = []key{
	{name: "xmpp.server", def: "127.0.0.1:5347", example: "xmpp.meet.jitsi:5347",
		means: "The host and port where the XMPP server waits for components. The connection is not encrypted, so it belongs on this machine or on a " +
			"private network."},
	{name: "xmpp.domain", unset: "required", example: "focus.meet.example.com",
		means: `usher's own address: the name in the server's line Component "focus.meet.example.com".`},
	{name: "xmpp.secret", unset: "required, or xmpp.secret_file", example: `"0b9e6d3c5a7f1842e0d4b6a89c37f512"`,
		means: "The component's secret, as the server has it. Nobody else may read this file then."},
	{name: "xmpp.secret_file", unset: "required, or xmpp.secret", example: "component.secret",
		means: "A file with the component's secret. A new line at its end does not count."},
	{name: "xmpp.allow_short_secret", def: "false", example: "true",
		means: "Accepts a secret of less than 32 bytes, for as long as you cannot change it."},

	{name: "rooms.services", unset: "required", example: "[conference.meet.example.com]",
		means: "The server's MUC services with the rooms that usher guards."},
	{name: "rooms.breakout", unset: "no breakout rooms", example: "breakout.meet.example.com",
		means: "The MUC service of Jitsi's breakout rooms. They need Jicofo."},
	{name: "rooms.lobby", unset: "no lobby", example: "lobby.meet.example.com",
		means: "The MUC service of Jitsi's lobbies."},
	{name: "rooms.wait_for_host", def: "guests", example: "members",
		means: "Who waits until a host is inside. `guests`: people without a token. `members`: also people with a token that does not make them " +
			"hosts. `never`: nobody waits, so guests may be among themselves."},
	{name: "rooms.guest_rooms", unset: "none", example: `["open-*"]`,
		means: "Rooms in which guests need no host, as patterns of names: `*` stands for any characters, `?` for one, `[a-z]` for one of a range."},
	{name: "rooms.host_affiliation", def: "owner", example: "admin",
		means: "What a host becomes in the room. `owner` may do everything. `admin` moderates, but cannot change the room's configuration."},
	{name: "rooms.enforcement", def: "members-only", example: "module",
		means: "What keeps out people who never asked usher. `members-only`: rooms are members-only for life, and a stock server is enough. `module`: " +
			"usher's module for Prosody, mod_usher. Members-only is then the switch of Jitsi's lobby, and stays with the moderators. The module also " +
			"tells usher what happens, and makes Jitsi's plugins heed the features of tokens."},
	{name: "rooms.guard_interval", def: "5s", example: "10s",
		means: "In front of Jicofo, how often usher looks whether a room in use is still members-only: 1s to 5m. Where nothing happens it looks less and " +
			"less often, down to once a minute. Where usher's module tells, and without Jicofo, usher hears of changes."},
	{name: "rooms.wait_hold", def: "10s", example: "5s",
		means: "How long usher holds the request of somebody who waits, to answer it the moment a host is inside: 0s (not at all) to 90s. Some XMPP " +
			"clients give up after 15s."},
	{name: "rooms.wait_hold_jitsi", def: "60s", example: "30s",
		means: "The same for Jitsi's clients, which set no time limit on a request."},
	{name: "rooms.after_kick", def: "ask", example: "wait 10m",
		means: "What becomes of somebody that a moderator has kicked or banned. `ask`: they may ask again at once. `wait 10m`: they are refused " +
			"for so long. `bar`: until the room ends. See [Rights that end](#rights-that-end)."},
	{name: "rooms.rules.match", unset: "any name", example: `"class-*"`,
		means: "The rooms of this rule, as a pattern of names: `*` stands for any characters, `?` for one, `[a-z]` for one of a range. The first " +
			"rule that fits counts; what it does not say is as in `rooms` and `lobby`."},
	{name: "rooms.rules.tenant", unset: "rooms without a tenant", example: "acme",
		means: "The tenant of the rooms of this rule, or `\"*\"`: any tenant, and none."},
	{name: "rooms.rules.wait_for_host", unset: "rooms.wait_for_host", example: "members",
		means: "As rooms.wait_for_host, for these rooms."},
	{name: "rooms.rules.guests", unset: "as the virtual hosts say", example: "deny",
		means: "`deny`: nobody enters without a token or a password. `allow`: guests enter as the virtual hosts say."},
	{name: "rooms.rules.max_occupants", unset: "no limit", example: "30",
		means: "How many people may be inside at once. Recorders, gateways and the focus are not counted, and hosts always enter."},
	{name: "rooms.rules.hours.days", unset: "every day", example: "[mon, tue, wed, thu, fri]",
		means: "The days on which the room opens: `mon`, `tue`, `wed`, `thu`, `fri`, `sat`, `sun`."},
	{name: "rooms.rules.hours.from", unset: "00:00", example: `"08:00"`,
		means: "When the room opens on these days. Before that nobody enters, hosts included."},
	{name: "rooms.rules.hours.until", unset: "24:00", example: `"18:00"`,
		means: "When the room closes: nobody enters from then on, and people inside stay. A time before `from` is on the next day."},
	{name: "rooms.rules.hours.zone", unset: "required with hours", example: "Europe/Berlin",
		means: "The time zone of these times, as the tz database names it."},
	{name: "rooms.rules.max_duration", unset: "no limit", example: "2h",
		means: "How long after the first admission the room ends. Without Jicofo, people inside are told 5 minutes before."},
	{name: "rooms.rules.on_host_left", def: "lock", example: "end",
		means: "What happens when the last host has left. `keep`: people come and go as before, as long as the room lasts. `lock`: newcomers wait " +
			"for a host again, and people inside stay. `end`: the room ends."},
	{name: "rooms.rules.host_grace", def: "0s", example: "5m",
		means: "How long that waits for a host to come back."},
	{name: "rooms.rules.first_is_host", def: "never", example: "token",
		means: "`token`: somebody who comes with a token while no host is inside is a host, for rooms among equals. Set `default_affiliation: member` with it. `never`: the " +
			"token must say so."},
	{name: "rooms.rules.lobby.autostart", unset: "lobby.autostart", example: "host",
		means: "As lobby.autostart, for these rooms."},
	{name: "rooms.rules.lobby.bypass", unset: "lobby.bypass", example: "[owner]",
		means: "As lobby.bypass, for these rooms."},
	{name: "rooms.rules.features", unset: "the token decides", example: "{recording: owners, livestreaming: never}",
		means: "Who may use which of Jitsi's features, as far as the token lets them. `owners`: those who enter as a host. `never`: nobody. " +
			"`token`: the token decides alone. See [Features](#features)."},

	{name: "lobby.autostart", def: "never", example: "host",
		means: "Who switches the lobby on without being asked. `host`: the first host in the room. `never`: a moderator does it."},
	{name: "lobby.bypass", def: "owner,member", example: "[owner]",
		means: "Who passes a lobby that is on: `owner` (hosts), `member`, or `[]` for nobody. Guests always knock."},

	{name: "jicofo.jid", unset: "usher is the focus itself", example: "focus@auth.meet.example.com",
		means: "The JID of Jitsi's conference focus, if usher stands in front of one."},
	{name: "jicofo.forward_token", def: "false", example: "true",
		means: "Passes the clients' tokens on to Jicofo, which reads them for visitors only."},
	{name: "jicofo.enforce_roles", def: "false", example: "true",
		means: "Takes the affiliation owner away from people if neither usher nor a host made them owners."},

	{name: "vhosts.DOMAIN.kind", unset: "required", example: "token",
		means: "What usher knows of the people of this virtual host. `token`: they need a token. `guest`: they need none; a token counts if " +
			"there is an issuer. `trusted`: the server asked for a password, so they are hosts. `service`: recorders and gateways, which are " +
			"let in, but never count as hosts."},
	{name: "vhosts.DOMAIN.allow_empty_token", def: "false", example: "true",
		means: "Lets people without a token in, as guests. A token that is not valid is refused all the same. Only with `kind: token`."},
	{name: "vhosts.DOMAIN.default_affiliation", def: "owner", example: "member",
		means: "What a token makes of its bearer if it does not say. `owner`: a host. `member`: somebody who is let in, but is no host."},
	{name: "vhosts.DOMAIN.on_expiry", def: "keep", example: "remove",
		means: "What becomes of people inside when their token ends. `keep`: they stay until they leave. `remove`: they are put out."},
	{name: "vhosts.DOMAIN.expiry_grace", def: "0s", example: "5m",
		means: "With `on_expiry: remove`, how long after the end of the token, and after `leeway`, they may stay: up to 24h."},
	{name: "vhosts.DOMAIN.token_reuse", def: "allow", example: "replace",
		means: "What happens when a token comes to a room in which it is already. `allow`: both are inside. `replace`: the one inside is put out. " +
			"`refuse`: the one outside is refused."},
	{name: "vhosts.DOMAIN.token_reuse_of", def: "token", example: "sub",
		means: "What is the same for that: the `token` itself, or its claim `sub`. `sub` needs `domain_verification: false`, because a domain or tenant " +
			"is no person."},

	{name: "vhosts.DOMAIN.issuers.app_id", unset: "required", example: "my_app",
		means: "The name of the issuer, as in the claim `iss` of its tokens."},
	{name: "vhosts.DOMAIN.issuers.app_secret", unset: "required, or another key with secrets or public keys", example: `"0b9e6d3c5a7f1842e0d4b6a89c37f512"`,
		means: "The secret that signs the issuer's tokens. Nobody else may read this file then."},
	{name: "vhosts.DOMAIN.issuers.app_secret_file", unset: "as app_secret", example: "app.secret",
		means: "A file with that secret. A new line at its end does not count."},
	{name: "vhosts.DOMAIN.issuers.app_secrets", unset: "as app_secret", example: `["0b9e6d3c5a7f1842e0d4b6a89c37f512", "7d2a90c4e8b15f63d70c91ae24f86b35"]`,
		means: "Several secrets, each of which counts: the new one and the old one while you change it."},
	{name: "vhosts.DOMAIN.issuers.allow_short_secret", def: "false", example: "true",
		means: "Accepts a secret of less than 32 bytes (48 with HS384, 64 with HS512), for as long as you cannot change it."},
	{name: "vhosts.DOMAIN.issuers.public_key_files", unset: "none", example: "[portal.pem]",
		means: "PEM files with public keys, or folders of such files."},
	{name: "vhosts.DOMAIN.issuers.jwks_file", unset: "none", example: "keys.json",
		means: "A file with a JWK Set (RFC 7517)."},
	{name: "vhosts.DOMAIN.issuers.jwks_url", unset: "none", example: "https://login.example.com/jwks",
		means: "The address of a JWK Set. Addresses are https, or http on this machine."},
	{name: "vhosts.DOMAIN.issuers.asap_key_server", unset: "none", example: "https://keys.example.com",
		means: "The address of Jitsi's key server: the key of a kid is `<address>/<sha256 of kid>.pem`."},
	{name: "vhosts.DOMAIN.issuers.cache_keys_url", unset: "none", example: "https://keys.example.com/map",
		means: "The address of a map of certificates by kid, as Firebase has it, or of a JWK Set."},
	{name: "vhosts.DOMAIN.issuers.keys_max_stale", def: "24h", example: "1h",
		means: "How long fetched keys stay in use when they should be fetched again and cannot be. 0s: not at all."},
	{name: "vhosts.DOMAIN.issuers.accepted_issuers", unset: "app_id", example: "[portal, old-portal]",
		means: "The values of the claim `iss` that are accepted; `\"*\"` stands for any."},
	{name: "vhosts.DOMAIN.issuers.accepted_audiences", def: "*", example: "[jitsi]",
		means: "The values of the claim `aud` that are accepted; `\"*\"` stands for any."},
	{name: "vhosts.DOMAIN.issuers.algorithms", unset: "[HS256] with a secret, [RS256] with public keys", example: "[HS512]",
		means: "How tokens may be signed. With a secret: HS256, HS384, HS512. With public keys: RS256, RS384, RS512, PS256, PS384, PS512, ES256, " +
			"ES384, ES512, EdDSA."},
	{name: "vhosts.DOMAIN.issuers.require_room", def: "true", example: "false",
		means: "Refuses tokens without the claim `room`."},
	{name: "vhosts.DOMAIN.issuers.require_exp", def: "true", example: "false",
		means: "Refuses tokens without the claim `exp`, which would never end."},
	{name: "vhosts.DOMAIN.issuers.domain_verification", def: "true", example: "false",
		means: "The claim `sub` must be the domain, the tenant, or `*`."},
	{name: "vhosts.DOMAIN.issuers.no_wildcard", def: "false", example: "true",
		means: "Refuses tokens for more than one room: `*` as room or sub, and patterns (`context.room.regex`)."},
	{name: "vhosts.DOMAIN.issuers.leeway", def: "10s", example: "30s",
		means: "How far the issuer's clock may be from usher's: 0s to 60s."},
	{name: "vhosts.DOMAIN.issuers.tenant", unset: "any tenant", example: "acme",
		means: "The one tenant with the rooms that these tokens open."},
	{name: "vhosts.DOMAIN.issuers.default_affiliation", unset: "that of the virtual host", example: "member",
		means: "What this issuer's tokens make of their bearer if they do not say. Only in the list issuers."},
	{name: "vhosts.DOMAIN.issuers.one_time", def: "false", example: "true",
		means: "Lets each token in on one machine only, by its `jti`. The same machine may come again until the token ends."},
	ofIssuer("on_expiry", "remove"),
	ofIssuer("expiry_grace", "5m"),
	ofIssuer("token_reuse", "replace"),
	ofIssuer("token_reuse_of", "sub"),
	claim("affiliation", "realm_access.roles", "the affiliation (if it is not there: member)"),
	claimValues("affiliation", "{teacher: owner, assistant: admin, \"*\": member}"),
	claim("id", "preferred_username", "the person's id"),
	claimValues("id", "{root: \"1\"}"),
	claim("name", "name", "the person's name"),
	claimValues("name", "{jdoe: Jane}"),
	claim("group", "department", "the person's group"),
	claimValues("group", "{d1: Sales}"),
	claim("room", "lesson", "the room"),
	claimValues("room", "{\"4711\": mathematics}"),
	claim("tenant", "school", "the tenant"),
	claimValues("tenant", "{s1: acme}"),

	{name: "sessions", def: "on", example: "off",
		means: "Gives a session to people who are let in by a token. With it the same client may ask again, for the same room and until the token ends. " +
			"`off`: the token is needed each time."},
	{name: "login", def: "password", unset: "where the sources and the virtual hosts say nothing else", example: "url",
		means: "The login that the web page offers to people who need a token and have none. `none`: no login, so they are refused at once. " +
			"`password`: the password of an account (kind: trusted). `url`: the page opens its tokenAuthUrl. With a login they wait in Jitsi's dialog."},

	{name: "store.path", unset: "a file in the folder for state, see [Store](#store)", example: "usher.db",
		means: "The file that keeps sessions, grants and waiting requests while usher is not running. Its folder must exist. `memory` keeps nothing, and " +
			"then no request is held."},
	{name: "store.max_size", unset: "1GiB, or 256MiB with path: memory", example: "512MiB",
		means: "How large the file may become, or how much memory may be used: 8MiB to 1024GiB."},
	{name: "store.url", unset: "a file of usher's own", example: "rediss://usher@redis.example.com:6379/0",
		means: "A Redis, 7 or later, or Valkey, in place of the file: several ushers share it, see [Several ushers](#several-ushers). `rediss` is with TLS. " +
			"A password may stand in it; nobody else may read this file then."},
	{name: "store.password_file", unset: "the password in store.url, if any", example: "redis.secret",
		means: "A file with the password of the Redis. A new line at its end does not count."},
	{name: "store.ca_file", unset: "those of the system", example: "redis-ca.pem",
		means: "A PEM file with the certificates that sign the Redis's. Only with rediss."},
	{name: "store.prefix", def: "usher", example: "meet",
		means: "Begins all keys in the Redis. Ushers with the same prefix share what they keep."},
	{name: "store.shard", unset: "xmpp.domain", example: "shard-1",
		means: "Names the server beside which this usher is, if several servers with the same domains share one Redis. Ushers with the same name " +
			"stand by for each other, and know the same rooms."},

	{name: "admin.socket", unset: "usher.sock in systemd's RuntimeDirectory=, or none", example: "/run/usher/usher.sock",
		means: "The socket by which `usher revoke`, `usher grants` and others talk to the running usher. Its folder must exist. Everybody who may " +
			"write to it can put people out."},

	{name: "ops.listen", def: "127.0.0.1:8089", example: "unix:/run/usher/ops.sock",
		means: "Where usher shows metrics (`/metrics`), its health (`/healthz`, `/readyz`) and the live page (`/`): host:port, `unix:` and the path of a " +
			"socket, or `off`. Everybody who reaches it sees rooms and people, but no tokens."},
	{name: "ops.pprof", def: "false", example: "true",
		means: "Adds the profiles of Go (`/debug/pprof`) there."},

	{name: "api.listen", def: "off", example: "127.0.0.1:8088",
		means: "Where usher answers calls of the [API](#api): host:port, or `off`. It speaks no TLS: in front of it belongs a proxy that does."},
	{name: "api.keys_file", def: "api-keys.yaml", example: "other-keys.yaml",
		means: "The file with the keys of the API. `usher api key add` writes it."},
	{name: "api.rate", def: "10", example: "2.5",
		means: "How many calls a second each key may make."},
	{name: "api.burst", def: "20", example: "50",
		means: "How many of them may come at once."},
	{name: "api.public_url", unset: "no links", example: "https://usher.example.com",
		means: "The address at which people reach the API's links, which are for one use."},
	{name: "api.meet_url", unset: "no links", example: "https://meet.example.com",
		means: "The address of the web page to which a link leads, without the room."},
}

// portalKeys are the rows of the portal.
var portalKeys = slices.Concat([]key{
	{name: "portal.listen", def: "off", example: "127.0.0.1:8087",
		means: "Where the [portal](#portal) is, at which hosts log in: host:port, `unix:` and the path of a socket, or `off`."},
	{name: "portal.public_url", unset: "required with portal.listen", example: "https://login.example.com",
		means: "The address at which people reach the portal, without a path. http only on this machine."},
	{name: "portal.meet_urls", unset: "required with portal.listen", example: "[https://meet.example.com]",
		means: "The addresses of the web pages to which the portal leads, without a path. It leads nowhere else. The first is the default."},
	{name: "portal.tls_cert_file", unset: "no TLS: a proxy in front has it", example: "portal-cert.pem",
		means: "A PEM file with the portal's certificate, and those that lead to its authority."},
	{name: "portal.tls_key_file", unset: "no TLS", example: "portal-key.pem",
		means: "A PEM file with the key of that certificate."},
	{name: "portal.trusted_proxies", unset: "none", example: `[127.0.0.1, "::1"]`,
		means: "The addresses or networks of the proxies in front: what they write into `X-Forwarded-For` counts as the address of the person."},
	{name: "portal.vhost", unset: "the first of kind token", example: "meet.example.com",
		means: "The virtual host that the portal's tokens are for."},
	{name: "portal.sign", unset: "app_secret if the virtual host has an issuer with a shared secret, and without claims, tenant and one_time; else key", example: "key",
		means: "What signs the tokens. `app_secret`: the secret of that issuer, so that Prosody's own provider can verify them, too. `key`: an Ed25519 key " +
			"that usher makes, and that Prosody cannot verify."},
	{name: "portal.key_file", unset: "portal-keys.json in the folder for state", example: "other-keys.json",
		means: "The file with that key. usher makes it, and `usher key rotate` changes it."},
	{name: "portal.token_ttl", def: "1h", example: "2h",
		means: "How long a token lasts: 1m to 24h, and never longer than the session. A new one costs no click."},
	{name: "portal.session", def: "12h", example: "until-host-left",
		means: "How long somebody stays logged in: 1m to 720h. `until-host-left`: until they leave the room, and 12h at most."},
	{name: "portal.users_file", def: "users.yaml", example: "other-users.yaml",
		means: "The file with accounts. `usher user add` writes it. It need not exist."},
	{name: "portal.users_url", unset: "no service", example: "https://portal.example.com/api/v1",
		means: "The address of a service that knows more accounts, as MiroTalk asks it: below it are `/user/isAuth`, `/user/roomsAllowed` and `/user/isRoomAllowed`."},
	{name: "portal.users_secret", unset: "required with portal.users_url, or portal.users_secret_file", example: `"7d2a90c4e8b15f63d70c91ae24f86b35"`,
		means: "The secret by which the service knows usher. Nobody else may read this file then."},
	{name: "portal.users_secret_file", unset: "required with portal.users_url, or portal.users_secret", example: "users.secret",
		means: "A file with that secret. A new line at its end does not count."},
	{name: "portal.mirotalk_api", def: "false", example: "true",
		means: "Adds the calls of MiroTalk's REST API to the API, with keys of the API. Only with api.listen."},
}, portalUserKeys(), []key{
	{name: "portal.providers.name", unset: "required", example: "keycloak",
		means: "The name of this OpenID provider, which is part of the address to which it leads back: `/login/callback/NAME`."},
	{name: "portal.providers.title", unset: "the name", example: "Example School",
		means: "What people read on its button."},
	{name: "portal.providers.issuer", unset: "required", example: "https://login.example.com/realms/school",
		means: "Its address, exactly as it writes it into its tokens. usher finds all else below it."},
	{name: "portal.providers.client_id", unset: "required", example: "usher",
		means: "usher's name there."},
	{name: "portal.providers.client_secret", unset: "none: a public client", example: `"0b9e6d3c5a7f1842e0d4b6a89c37f512"`,
		means: "usher's secret there. Nobody else may read this file then."},
	{name: "portal.providers.client_secret_file", unset: "none: a public client", example: "client.secret",
		means: "A file with that secret. A new line at its end does not count."},
	{name: "portal.providers.scopes", def: "openid,profile,email", example: "[openid, profile, groups]",
		means: "What usher asks for."},
	{name: "portal.providers.id_claim", def: "sub", example: "oid",
		means: "The claim that makes a person unmistakable there."},
	{name: "portal.providers.name_claim", def: "preferred_username", example: "email",
		means: "The claim with their name."},
	{name: "portal.providers.display_claim", def: "name", example: "given_name",
		means: "The claim with the name that others read in the room."},
	{name: "portal.providers.leeway", def: "10s", example: "60s",
		means: "How far its clock may be from usher's: 0s to 60s."},
	{name: "portal.providers.rules.claim", def: "groups", example: "realm_access.roles",
		means: "Where its people have what decides: names with dots between them, `\\.` for a dot in a name. All rules that fit count; without one, nobody " +
			"gets in."},
	{name: "portal.providers.rules.value", unset: "required", example: "teachers",
		means: "The value there that fits, alone or in a list; `\"*\"` for everybody that the provider knows."},
	{name: "portal.providers.rules.affiliation", def: "owner", example: "member",
		means: "What they become in the room: `owner`, `admin` or `member`. The highest of all rules counts."},
	{name: "portal.providers.rules.rooms", unset: "required", example: `["class-*"]`,
		means: "The rooms that they may open, as those of `portal.users`."},
	{name: "portal.providers.rules.tenant", unset: "none", example: "acme",
		means: "The tenant of those rooms that name none."},
	{name: "portal.providers.rules.features", unset: "nothing is said of them", example: "[recording, livestreaming]",
		means: "The features that their token grants."},
})

// laterKeys are the rows of the sections behind the portal.
var laterKeys = []key{
	{name: "audit.to", def: "off", example: "/var/log/usher/audit.jsonl",
		means: "Where each decision and each call of the API is written as a line of JSON: a file, `stderr`, `journal`, or `off`."},
	{name: "audit.max_size", def: "100MiB", example: "1GiB",
		means: "How large the file may become before a new one begins: 1MiB to 1024GiB."},
	{name: "audit.max_age", def: "720h", example: "2160h",
		means: "How old the last line of a file becomes before the file is removed: 1h to 87600h. A new file begins when the first line is a tenth of that old."},
	{name: "audit.keep", def: "10", example: "30",
		means: "How many older files are kept: 1 to 1000."},

	{name: "webhooks.name", unset: "required", example: "back-end",
		means: "The name of this webhook, for the log and the metrics. See [Webhooks](#webhooks)."},
	{name: "webhooks.url", unset: "required", example: "https://portal.example.com/hooks/usher",
		means: "The address that hears of events, by https. Redirects are not followed."},
	{name: "webhooks.secret", unset: "required, or webhooks.secret_file", example: "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
		means: "The secret that signs each event, by the [Standard Webhooks](https://www.standardwebhooks.com) specification: `whsec_` and 24 to 64 bytes in " +
			"base64. Nobody else may read this file then."},
	{name: "webhooks.secret_file", unset: "required, or webhooks.secret", example: "webhook.secret",
		means: "A file with that secret. A new line at its end does not count."},
	{name: "webhooks.events", unset: "all", example: "[admitted, refused]",
		means: "Which events: " + inCode(HookEvents) + "."},
	{name: "webhooks.rooms", unset: "all", example: `["class-*"]`,
		means: "The rooms that it hears of, as patterns of names: `*` stands for any characters, `?` for one. `[acme]*` is for the rooms of a tenant, and " +
			"`[*]*` for all rooms; without brackets, rooms without a tenant."},
	{name: "webhooks.timeout", def: "10s", example: "5s",
		means: "How long it may take to answer: 1s to 60s. Then usher tries again."},

	{name: "log.level", def: "info", example: "debug",
		means: "The least level that is logged: `debug`, `info`, `warn` or `error`."},
	{name: "log.format", def: "console", example: "json",
		means: "`console`, for people, or `json`."},

	{name: "sources.prosody", unset: "not read", example: "[/etc/prosody/prosody.cfg.lua]",
		means: "Prosody's main files. What they include is read, too."},
	{name: "sources.docker", unset: "not read", example: ".env",
		means: "The variables of docker-jitsi-meet: its .env file, or `environment` for usher's own environment."},
	{name: "sources.mirotalk", unset: "not read; with portal.listen the environment is, if it has one of its variables", example: "mirotalk.env",
		means: "The variables of MiroTalk SFU's Host Protection: its .env file, or `environment` for usher's own environment."},
	{name: "sources.meet", unset: "not read", example: "[/etc/jitsi/meet/meet.example.com-config.js]",
		means: "The web page's config.js. It sets `login`, and usher warns of what does not work with it."},

	{name: "prosody.files", unset: "sources.prosody", example: "[/etc/prosody/prosody.cfg.lua]",
		means: "Prosody's main files after an import. They set nothing. `usher config prosody` makes its lines from them, and `config check` and " +
			"`doctor` compare."},
}

// claim and claimValues are the rows of a claim: where it stands, and what its values mean.
func claim(name, path, of string) key {
	return key{name: "vhosts.DOMAIN.issuers.claims." + name, unset: "where Jitsi has it", example: path,
		means: "Where the token has " + of + ": names with dots between them, `\\.` for a dot in a name."}
}

func claimValues(name, example string) key {
	return key{name: "vhosts.DOMAIN.issuers.claims." + name + "_values", unset: "values mean what they say", example: example,
		means: "What the values there mean; `\"*\"` stands for all others."}
}

// inCode lists words as README.md marks them.
func inCode(words []string) string { return "`" + strings.Join(words, "`, `") + "`" }

// ofIssuer is the row of a key that an issuer in the list may have as well as the virtual host.
func ofIssuer(name, example string) key {
	return key{name: "vhosts.DOMAIN.issuers." + name, unset: "that of the virtual host", example: example,
		means: "As that of the virtual host, for this issuer's tokens. Only in the list issuers."}
}

// raw is what viper decodes into. It has a field for each key of the table, with its type.
type raw struct {
	Sources struct {
		Prosody  []string `mapstructure:"prosody"`
		Docker   string   `mapstructure:"docker"`
		MiroTalk string   `mapstructure:"mirotalk"`
		Meet     []string `mapstructure:"meet"`
	} `mapstructure:"sources"`
	Prosody struct {
		Files []string `mapstructure:"files"`
	} `mapstructure:"prosody"`
	XMPP struct {
		Server           string `mapstructure:"server"`
		Domain           string `mapstructure:"domain"`
		Secret           string `mapstructure:"secret"`
		SecretFile       string `mapstructure:"secret_file"`
		AllowShortSecret bool   `mapstructure:"allow_short_secret"`
	} `mapstructure:"xmpp"`
	Rooms struct {
		Services        []string      `mapstructure:"services"`
		Breakout        string        `mapstructure:"breakout"`
		Lobby           string        `mapstructure:"lobby"`
		WaitForHost     string        `mapstructure:"wait_for_host"`
		GuestRooms      []string      `mapstructure:"guest_rooms"`
		HostAffiliation string        `mapstructure:"host_affiliation"`
		Enforcement     string        `mapstructure:"enforcement"`
		GuardInterval   time.Duration `mapstructure:"guard_interval"`
		WaitHold        time.Duration `mapstructure:"wait_hold"`
		WaitHoldJitsi   time.Duration `mapstructure:"wait_hold_jitsi"`
		AfterKick       string        `mapstructure:"after_kick"`
		// By number, as issuers.
		Rules map[int]rawRule `mapstructure:"rules"`
	} `mapstructure:"rooms"`
	Lobby struct {
		Autostart string   `mapstructure:"autostart"`
		Bypass    []string `mapstructure:"bypass"`
	} `mapstructure:"lobby"`
	Jicofo struct {
		JID          string `mapstructure:"jid"`
		ForwardToken bool   `mapstructure:"forward_token"`
		EnforceRoles bool   `mapstructure:"enforce_roles"`
	} `mapstructure:"jicofo"`
	VHosts   map[string]rawVHost `mapstructure:"vhosts"`
	Sessions bool                `mapstructure:"sessions"`
	Login    string              `mapstructure:"login"`
	Store    struct {
		Path         string `mapstructure:"path"`
		MaxSize      Size   `mapstructure:"max_size"`
		URL          string `mapstructure:"url"`
		PasswordFile string `mapstructure:"password_file"`
		CAFile       string `mapstructure:"ca_file"`
		Prefix       string `mapstructure:"prefix"`
		Shard        string `mapstructure:"shard"`
	} `mapstructure:"store"`
	Admin struct {
		Socket string `mapstructure:"socket"`
	} `mapstructure:"admin"`
	Ops struct {
		Listen string `mapstructure:"listen"`
		Pprof  bool   `mapstructure:"pprof"`
	} `mapstructure:"ops"`
	API struct {
		Listen    string  `mapstructure:"listen"`
		KeysFile  string  `mapstructure:"keys_file"`
		Rate      float64 `mapstructure:"rate"`
		Burst     int     `mapstructure:"burst"`
		PublicURL string  `mapstructure:"public_url"`
		MeetURL   string  `mapstructure:"meet_url"`
	} `mapstructure:"api"`
	Portal rawPortal `mapstructure:"portal"`
	Audit  struct {
		To      string        `mapstructure:"to"`
		MaxSize Size          `mapstructure:"max_size"`
		MaxAge  time.Duration `mapstructure:"max_age"`
		Keep    int           `mapstructure:"keep"`
	} `mapstructure:"audit"`
	// By number, as issuers.
	Webhooks map[int]rawWebhook `mapstructure:"webhooks"`
	Log      struct {
		Level  string `mapstructure:"level"`
		Format string `mapstructure:"format"`
	} `mapstructure:"log"`
}

type rawWebhook struct {
	Name       string        `mapstructure:"name"`
	URL        string        `mapstructure:"url"`
	Secret     string        `mapstructure:"secret"`
	SecretFile string        `mapstructure:"secret_file"`
	Events     []string      `mapstructure:"events"`
	Rooms      []string      `mapstructure:"rooms"`
	Timeout    time.Duration `mapstructure:"timeout"`
}

type rawRule struct {
	Match        string        `mapstructure:"match"`
	Tenant       string        `mapstructure:"tenant"`
	WaitForHost  string        `mapstructure:"wait_for_host"`
	Guests       string        `mapstructure:"guests"`
	MaxOccupants int           `mapstructure:"max_occupants"`
	Hours        rawHours      `mapstructure:"hours"`
	MaxDuration  time.Duration `mapstructure:"max_duration"`
	OnHostLeft   string        `mapstructure:"on_host_left"`
	HostGrace    time.Duration `mapstructure:"host_grace"`
	FirstIsHost  string        `mapstructure:"first_is_host"`
	Lobby        struct {
		Autostart string   `mapstructure:"autostart"`
		Bypass    []string `mapstructure:"bypass"`
	} `mapstructure:"lobby"`
	Features map[string]string `mapstructure:"features"`
}

type rawHours struct {
	Days  []string `mapstructure:"days"`
	From  string   `mapstructure:"from"`
	Until string   `mapstructure:"until"`
	Zone  string   `mapstructure:"zone"`
}

type rawVHost struct {
	Kind               string        `mapstructure:"kind"`
	AllowEmptyToken    bool          `mapstructure:"allow_empty_token"`
	DefaultAffiliation string        `mapstructure:"default_affiliation"`
	OnExpiry           string        `mapstructure:"on_expiry"`
	ExpiryGrace        time.Duration `mapstructure:"expiry_grace"`
	TokenReuse         string        `mapstructure:"token_reuse"`
	TokenReuseOf       string        `mapstructure:"token_reuse_of"`
	// The short form of one issuer: its keys stand on the vhost.
	rawIssuer `mapstructure:",squash"`
	// The long form, by number: viper merges maps, not lists.
	Issuers map[int]rawListed `mapstructure:"issuers"`
}

// rawListed is an issuer in the list. On the vhost itself, the key of the vhost is that of the issuer.
type rawListed struct {
	rawIssuer          `mapstructure:",squash"`
	DefaultAffiliation string        `mapstructure:"default_affiliation"`
	OnExpiry           string        `mapstructure:"on_expiry"`
	ExpiryGrace        time.Duration `mapstructure:"expiry_grace"`
	TokenReuse         string        `mapstructure:"token_reuse"`
	TokenReuseOf       string        `mapstructure:"token_reuse_of"`
}

type rawIssuer struct {
	AppID              string        `mapstructure:"app_id"`
	AppSecret          string        `mapstructure:"app_secret"`
	AppSecretFile      string        `mapstructure:"app_secret_file"`
	AppSecrets         []string      `mapstructure:"app_secrets"`
	AllowShortSecret   bool          `mapstructure:"allow_short_secret"`
	PublicKeyFiles     []string      `mapstructure:"public_key_files"`
	JWKSFile           string        `mapstructure:"jwks_file"`
	JWKSURL            string        `mapstructure:"jwks_url"`
	ASAPKeyServer      string        `mapstructure:"asap_key_server"`
	CacheKeysURL       string        `mapstructure:"cache_keys_url"`
	KeysMaxStale       time.Duration `mapstructure:"keys_max_stale"`
	AcceptedIssuers    []string      `mapstructure:"accepted_issuers"`
	AcceptedAudiences  []string      `mapstructure:"accepted_audiences"`
	Algorithms         []string      `mapstructure:"algorithms"`
	RequireRoom        bool          `mapstructure:"require_room"`
	RequireExp         bool          `mapstructure:"require_exp"`
	DomainVerification bool          `mapstructure:"domain_verification"`
	NoWildcard         bool          `mapstructure:"no_wildcard"`
	Leeway             time.Duration `mapstructure:"leeway"`
	Tenant             string        `mapstructure:"tenant"`
	OneTime            bool          `mapstructure:"one_time"`
	Claims             rawClaims     `mapstructure:"claims"`
}

type rawClaims struct {
	Affiliation       string            `mapstructure:"affiliation"`
	AffiliationValues map[string]string `mapstructure:"affiliation_values"`
	ID                string            `mapstructure:"id"`
	IDValues          map[string]string `mapstructure:"id_values"`
	Name              string            `mapstructure:"name"`
	NameValues        map[string]string `mapstructure:"name_values"`
	Group             string            `mapstructure:"group"`
	GroupValues       map[string]string `mapstructure:"group_values"`
	Room              string            `mapstructure:"room"`
	RoomValues        map[string]string `mapstructure:"room_values"`
	Tenant            string            `mapstructure:"tenant"`
	TenantValues      map[string]string `mapstructure:"tenant_values"`
}

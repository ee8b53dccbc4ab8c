package token_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/lestrrat-go/jwx/v2/jwa"
)

// The vhosts of these vectors have the claim maps of testdata/tokens/claims.json.

const (
	acmeRoom     = "[acme]standup@conference.meet.example.com"
	acmeByDomain = "standup@conference.acme.meet.example.com" // as Jitsi's client writes it
)

// row is a vector of a vhost with a claim map.
type row struct{ name, expect, vhost, room, payload, comment string }

// minted signs the rows with the key of their vhost.
func minted(t testing.TB, header string, rows []row) []vector {
	var all []vector
	for _, r := range rows {
		v := vector{name: r.name, expect: r.expect, vhost: r.vhost + ".example.com", room: r.room, comment: r.comment}
		switch r.vhost {
		case "jaas", "keycloak", "keycloak-client", "rs":
			v.token = sign(t, jwa.RS256, privateKey(t, "rsa2048"), strings.Replace(header, "HS256", "RS256", 1), r.payload)
		default:
			v.token = hs256(t, header, r.payload)
		}
		all = append(all, v)
	}
	return all
}

// keycloakAccess returns the access token of a Keycloak realm (Keycloak 26, services
// org.keycloak.protocol.oidc.TokenManager): no room, aud an array, sub a UUID, "typ" as a claim, too.
func keycloakAccess(roles string) string {
	return fmt.Sprintf(`{"exp":%d,"iat":%d,"auth_time":%d,"jti":"onrtac:5b2f","iss":"https://id.example.com/realms/acme",`+
		`"aud":["meet","account"],"sub":"f1b4e6b2-7c1d-4f5e-9a43-0d6c5f0a7e11","typ":"Bearer","azp":"meet","sid":"8b0c","acr":"1",`+
		`"allowed-origins":["https://meet.example.com"],%s"scope":"openid profile email","email_verified":true,"name":"Juliet Capulet",`+
		`"preferred_username":"juliet","given_name":"Juliet","family_name":"Capulet","email":"juliet@example.com"}`,
		now+300, now, now, roles)
}

// issuerShapeVectors are tokens as issuers send them, with invented values: what is told here of their shape is taken
// from their sources and documentation.
func issuerShapeVectors(t testing.TB) []vector {
	const kid = `{"alg":"HS256","kid":"vpaas-magic-cookie-acme/4f4910","typ":"JWT"}`
	wrong, room, tenant := "deny token-claims", "deny room-mismatch", "deny tenant-mismatch"

	jaas := func(moderator, room string) string {
		return fmt.Sprintf(`{"aud":"jitsi","iss":"chat","iat":%d,"exp":%d,"nbf":%d,"sub":"acme","context":{"features":{"livestreaming":"true",`+
			`"outbound-call":true,"sip-outbound-call":false,"transcription":"true","recording":"false"},"user":{"hidden-from-recorder":"false",%s`+
			`"name":"Juliet","id":"auth0|637495","avatar":"","email":"juliet@example.com"},"room":{"regex":false}},"room":%q}`,
			now-10, now+7200, now-10, moderator, room)
	}
	all := minted(t, kid, []row{
		{"jaas-moderator", "allow owner", "jaas", acmeRoom, jaas(`"moderator":"true",`, "*"), "JaaS writes booleans as strings"},
		{"jaas-moderator-boolean", "allow owner", "jaas", acmeRoom, jaas(`"moderator":true,`, "standup"), "or as booleans"},
		{"jaas-participant", "allow member", "jaas", acmeRoom, jaas(`"moderator":"false",`, "standup"), "\"false\" is false"},
		{"jaas-no-moderator", "allow member", "jaas", acmeRoom, jaas("", "standup"), "says nothing: member, and not the vhost's default of owner"},
		{"jaas-moderator-other", "allow member", "jaas", acmeRoom, jaas(`"moderator":"TRUE",`, "standup"), "not in the table: member"},
		{"jaas-domain", "allow owner", "jaas", acmeByDomain, jaas(`"moderator":"true",`, "standup"), "the tenant's room as the client spells it"},
		{"jaas-other-room", room, "jaas", acmeRoom, jaas(`"moderator":"true",`, "retro"), "another room"},
		{"jaas-other-tenant", tenant, "jaas", "[other]standup@conference.meet.example.com", jaas(`"moderator":"true",`, "*"), "another tenant, named in sub"},
		{"jaas-no-tenant", tenant, "jaas", "", jaas(`"moderator":"true",`, "*"), "a room of no tenant"},
		{"jaas-unmapped", "allow owner", "rs", acmeRoom, strings.Replace(jaas(`"moderator":"true",`, "*"), `"chat"`, `"my_app"`, 1), "\"true\" is true without the map, too"},
		{"jaas-unmapped-participant", "allow member", "rs", acmeRoom, strings.Replace(jaas(`"moderator":"false",`, "*"), `"chat"`, `"my_app"`, 1), "and \"false\" is false"},
	})

	// nordeck/jitsi-keycloak-adapter: adapter.ts and context.ts; the second version names no affiliation.
	adapter := func(affiliation, room string) string {
		return claims(`aud="my_app"`, `sub="*"`, fmt.Sprintf("room=%q", room), fmt.Sprintf("nbf=%d", now-60),
			user(`"id":"f1b4e6b2-7c1d-4f5e-9a43-0d6c5f0a7e11","name":"Juliet Capulet","email":"",`+affiliation+`"lobby_bypass":true,"security_bypass":true`))
	}
	all = append(all, minted(t, headerOf("HS256"), []row{
		{"keycloak-adapter-owner", "allow owner", "keycloak-adapter", "", adapter(`"affiliation":"owner",`, "*"), "the adapter's own affiliation"},
		{"keycloak-adapter-member", "allow member", "keycloak-adapter", "", adapter(`"affiliation":"member",`, "standup"), "a member"},
		{"keycloak-adapter-none", "allow member", "keycloak-adapter", "", adapter("", "*"), "the second version says nothing: member"},
		{"keycloak-adapter-unmapped", "allow owner", "meet", "", adapter("", "*"), "without the map that is the vhost's default"},
		{"keycloak-adapter-other-room", room, "keycloak-adapter", "", adapter(`"affiliation":"owner",`, "retro"), "another room"},
		{"keycloak-adapter-unknown", wrong, "keycloak-adapter", "", adapter(`"affiliation":"superuser",`, "*"), "without a table an affiliation is a word of Jitsi's"},
	})...)

	roles := func(list string) string {
		return keycloakAccess(`"realm_access":{"roles":[` + list + `]},"groups":["/staff","/acme"],`)
	}
	all = append(all, minted(t, `{"alg":"HS256","typ":"JWT","kid":"Zk1"}`, []row{
		{"keycloak-host", "allow owner", "keycloak", acmeRoom, roles(`"offline_access","meet-guest","meet-host","uma_authorization"`), "the strongest role counts, wherever it stands"},
		{"keycloak-staff", "allow admin", "keycloak", acmeRoom, roles(`"meet-staff","default-roles-acme"`), "admin by the table"},
		{"keycloak-user", "allow member", "keycloak", acmeRoom, roles(`"offline_access","uma_authorization"`), "none of the table: member"},
		{"keycloak-word", "allow member", "keycloak", acmeRoom, roles(`"owner","admin"`), "with a table Jitsi's words mean nothing"},
		{"keycloak-no-roles", "allow member", "keycloak", acmeRoom, keycloakAccess(""), "Keycloak leaves an empty list out"},
		{"keycloak-empty-roles", "allow member", "keycloak", acmeRoom, roles(""), "an empty list"},
		{"keycloak-domain", "allow owner", "keycloak", acmeByDomain, roles(`"meet-host"`), "the tenant's room as the client spells it"},
		{"keycloak-any-room", "allow owner", "keycloak", "[acme]retro@conference.meet.example.com", roles(`"meet-host"`), "no room: every room of the issuer's tenant"},
		{"keycloak-other-tenant", tenant, "keycloak", "[other]standup@conference.meet.example.com", roles(`"meet-host"`), "a room of another tenant than the issuer's"},
		{"keycloak-other-tenant-domain", tenant, "keycloak", "standup@conference.other.meet.example.com", roles(`"meet-host"`), "the same in the client's spelling"},
		{"keycloak-no-tenant", tenant, "keycloak", "", roles(`"meet-host"`), "a room of no tenant"},
		{"keycloak-roles-text", "allow owner", "keycloak", acmeRoom, keycloakAccess(`"realm_access":{"roles":"meet-host"},`), "one role as a string"},
	})...)
	client := func(roles string) string {
		return keycloakAccess(`"meeting":["standup"],"resource_access":{"account":{"roles":["owner"]},"meet.example.com":{"roles":[` + roles + `]}},`)
	}
	all = append(all, minted(t, headerOf("HS256"), []row{
		{"keycloak-client-owner", "allow owner", "keycloak-client", "", client(`"view","moderator"`), "a dot that belongs to the client's name; without a table the words of Jitsi's, others are passed over"},
		{"keycloak-client-none", "allow member", "keycloak-client", "", client(`"view","Owner","owner "`), "none of Jitsi's words"},
		{"keycloak-client-other-room", room, "keycloak-client", "retro@conference.meet.example.com", client(`"owner"`), "another room than the mapped claim's"},
	})...)

	// The Element widget signs with the word "notused", for its token was made to carry an OpenID token and to be
	// checked by other means (matrix-org/prosody-mod-auth-matrix-user-verification). A service that checks that, and signs
	// the same claims with a key of its own, is an issuer.
	matrix := func(matrix string, changes ...string) string {
		return claims(append([]string{`iss="meet.example.com"`, `aud="https://meet.example.com"`, `room="*"`,
			`context={"matrix":{"token":"b3BlbmlkLXRva2Vu",` + matrix + `"server_name":"matrix.example.com"},"user":{"avatar":null,"name":"Juliet"}}`}, changes...)...)
	}
	standup := `"room_id":"!standup:matrix.example.com",`
	all = append(all, minted(t, headerOf("HS256"), []row{
		{"matrix-owner", "allow owner", "matrix", "", matrix(standup + `"power_level":100,`), "a number by the table, and a room by the table, whatever room says"},
		{"matrix-admin", "allow admin", "matrix", "", matrix(standup + `"power_level":50,`), "another number"},
		{"matrix-member", "allow member", "matrix", "", matrix(standup + `"power_level":0,`), "all others"},
		{"matrix-no-level", "allow member", "matrix", "", matrix(standup), "no power level"},
		{"matrix-other-room", room, "matrix", "", matrix(`"room_id":"!retro:matrix.example.com","power_level":100,`), "another room of the table"},
		{"matrix-unmapped-room", wrong, "matrix", "", matrix(`"room_id":"!other:matrix.example.com","power_level":100,`), "a room that nobody mapped opens nothing"},
		{"matrix-plain-map", "allow owner", "meet", "", matrix(standup, `iss="my_app"`), "without the map the star opens every room"},
	})...)
	all = append(all, vector{
		name: "matrix-element-widget", expect: "deny token-signature", vhost: "matrix.example.com",
		comment: "Element's own token, signed with a key that everybody knows",
		token:   signedWith([]byte("notused"), headerOf("HS256"), matrix(standup)),
	})

	// RocketChat/Apps.Jitsi: src/videoConfProvider.ts; moderator is there for who started the call.
	rocket := func(changes ...string) string {
		return claims(append([]string{`aud="RocketChat"`, fmt.Sprintf("nbf=%d", now-60), `room="65F0C8a2"`,
			user(`"name":"Juliet","avatar":"https://chat.example.com/avatar/juliet","email":"9Zk@rocket.chat"`)}, changes...)...)
	}
	const rocketRoom = "65f0c8a2@conference.meet.example.com"
	all = append(all, minted(t, headerOf("HS256"), []row{
		{"rocketchat-creator", "allow owner", "rocketchat", rocketRoom, rocket("moderator=true"), "who started the call"},
		{"rocketchat-other", "allow member", "rocketchat", rocketRoom, rocket(), "everybody else: the claim is absent"},
		{"rocketchat-unmapped", "allow owner", "meet", rocketRoom, rocket(), "without the map that is the vhost's default"},
		{"rocketchat-other-room", room, "rocketchat", "", rocket("moderator=true"), "another call"},
	})...)

	// nextcloud/jitsi: lib/Controller/RoomController.php; lobby tells those who are not logged in.
	nextcloud := func(lobby string) string {
		return claims(`iss="jitsi"`, `sub="*"`, `room="0b6f7c7e-4f3a"`, "iat", user(`"name":null,"lobby":`+lobby))
	}
	const nextcloudRoom = "0b6f7c7e-4f3a@conference.meet.example.com"
	all = append(all, minted(t, headerOf("HS256"), []row{
		{"nextcloud-user", "allow owner", "nextcloud", nextcloudRoom, nextcloud("false"), "somebody logged in"},
		{"nextcloud-guest", "allow member", "nextcloud", nextcloudRoom, nextcloud("true"), "somebody with the link"},
		{"nextcloud-other-room", room, "nextcloud", "", nextcloud("false"), "another room"},
	})...)

	// moodle-mod_jitsi: lib.php, createsession; older versions have moderator alone, and write it as they like.
	moodle := func(changes ...string) string {
		return claims(append([]string{"iat", `room="My%20Course"`, `context={"user":{"affiliation":"member","avatar":"https://moodle.example.com/f1",` +
			`"name":"Juliet","email":"juliet@example.com","id":""},"group":""}`}, changes...)...)
	}
	const moodleRoom = "my%20course@conference.meet.example.com"
	all = append(all, minted(t, `{"kid":"jitsi/custom_key_name","typ":"JWT","alg":"HS256"}`, []row{
		{"moodle-teacher", "allow owner", "moodle", moodleRoom, moodle("moderator=true"), "what is mapped counts, and context.user.affiliation is not read"},
		{"moodle-student", "allow member", "moodle", moodleRoom, moodle("moderator=false"), "a student"},
		{"moodle-teacher-string", "allow owner", "moodle", moodleRoom, moodle(`moderator="true"`), "a string is taken by the table"},
		{"moodle-unmapped", "allow member", "meet", moodleRoom, moodle("moderator=true"), "Jitsi's own claims need no map"},
		{"moodle-other-room", room, "moodle", "", moodle("moderator=true"), "another course"},
	})...)

	// MarcelCoding/jitsi-openid: src/routes.rs; what the provider does not say is null.
	openid := func(affiliation string) string {
		return claims(`iss="jitsi"`, `room="*"`, fmt.Sprintf("nbf=%d", now-60),
			`context={"user":{"id":"juliet","email":null,"affiliation":`+affiliation+`,"name":"Juliet","avatar":null,"moderator":null},"group":null}`)
	}
	return append(all, minted(t, headerOf("HS256"), []row{
		{"jitsi-openid-owner", "allow owner", "jitsi-openid", "", openid(`"owner"`), "an affiliation of the provider"},
		{"jitsi-openid-null", "allow member", "jitsi-openid", "", openid("null"), "null says nothing: member"},
		{"jitsi-openid-unmapped", "allow owner", "meet", "", strings.Replace(openid("null"), `"iss":"jitsi"`, `"iss":"my_app"`, 1), "without the map null is absent: the vhost's default, owner"},
		{"jitsi-openid-other-domain", tenant, "jitsi-openid", acmeRoom, openid(`"owner"`), "a tenant's room, for a token of the domain"},
	})...)
}

// claimMapVectors are hostile and odd tokens for issuers with a claim map.
func claimMapVectors(t testing.TB) []vector {
	wrong, room, tenant, malformed := "deny token-claims", "deny room-mismatch", "deny tenant-mismatch", "deny token-malformed"
	access := func(roles string) string { return keycloakAccess(`"realm_access":` + roles + `,`) }
	many := func(n int) string {
		return `{"roles":[` + strings.Repeat(`"r",`, n) + `"meet-host"]}`
	}
	matrix := func(level string) string {
		return claims(`iss="meet.example.com"`, `context={"matrix":{"room_id":"!standup:matrix.example.com","power_level":`+level+`}}`)
	}
	meeting := func(value string) string {
		return keycloakAccess(`"meeting":` + value + `,"resource_access":{"meet.example.com":{"roles":["owner"]}},`)
	}
	table := func(meeting, organisation string) string {
		return claims("room", "meeting="+meeting, "organisation="+organisation)
	}
	organisation := func(value string, changes ...string) string {
		return claims(append([]string{"organisation=" + value}, changes...)...)
	}
	return minted(t, headerOf("HS256"), []row{
		{"map-roles-many", "allow owner", "keycloak", acmeRoom, access(many(1000)), "1,000 roles, the last of which counts"},
		{"map-roles-10000", malformed, "keycloak", acmeRoom, access(many(10000)), "10,000 roles are more than a token holds"},
		{"map-roles-object", wrong, "keycloak", acmeRoom, access(`{"roles":{"meet-host":true}}`), "an object where the roles are"},
		{"map-roles-nested", wrong, "keycloak", acmeRoom, access(`{"roles":[["meet-host"]]}`), "an array in the array"},
		{"map-roles-null-element", wrong, "keycloak", acmeRoom, access(`{"roles":[null,"meet-host"]}`), "null in the array"},
		{"map-path-through-text", wrong, "keycloak", acmeRoom, access(`"meet-host"`), "the path leads through a string"},
		{"map-path-through-array", wrong, "keycloak", acmeRoom, access(`[{"roles":["meet-host"]}]`), "the path leads through an array"},
		{"map-path-through-null", "allow member", "keycloak", acmeRoom, access("null"), "the path leads through null, which is absent: member"},
		{"map-path-through-empty-array", "allow member", "keycloak", acmeRoom, access("[]"), "the path leads through PHP's empty object: member"},
		{"map-path-dotted", "allow member", "keycloak", acmeRoom, keycloakAccess(`"realm_access.roles":["meet-host"],`), "a dot in a name is no path"},
		{"map-case-first", wrong, "keycloak", acmeRoom, keycloakAccess(`"Realm_access":{"roles":["meet-host"]},`), "another case of the first name on the path"},
		{"map-case-last", wrong, "keycloak", acmeRoom, access(`{"ROLES":["meet-host"]}`), "another case of the last name on the path"},
		{"map-case-long-s", wrong, "keycloak", acmeRoom, access(`{"role\u017f":["meet-host"]}`), "another case by U+017F"},
		{"map-duplicate", malformed, "keycloak", acmeRoom, access(`{"roles":[],"roles":["meet-host"]}`), "roles twice"},
		{"map-name-number", "allow owner", "keycloak", acmeRoom, strings.Replace(access(`{"roles":["meet-host"]}`), `"Juliet Capulet"`, "7", 1), "an integer is text"},
		{"map-name-two", "allow owner", "keycloak", acmeRoom, strings.Replace(access(`{"roles":["meet-host"]}`), `"Juliet Capulet"`, `["a","b"]`, 1), "two names: neither is taken, and none is needed"},
		{"map-name-object", "allow owner", "keycloak", acmeRoom, strings.Replace(access(`{"roles":["meet-host"]}`), `"Juliet Capulet"`, `{"first":"Juliet"}`, 1), "a name decides nothing"},
		{"map-number-1e400", wrong, "matrix", "", matrix("1e400"), "no integer"},
		{"map-number-1e2", wrong, "matrix", "", matrix("1e2"), "an integer, but not as it is written shortest"},
		{"map-number-fraction", wrong, "matrix", "", matrix("100.0"), "nor this"},
		{"map-number-minus-zero", wrong, "matrix", "", matrix("-0"), "nor this"},
		{"map-number-string", "allow owner", "matrix", "", matrix(`"100"`), "the same text"},
		{"map-number-huge", "allow member", "matrix", "", matrix("1" + strings.Repeat("0", 500)), "one of all others"},
		{"map-no-room", wrong, "matrix", "", claims(`iss="meet.example.com"`, `context={"matrix":{"power_level":100}}`), "the room is mapped: the one at Jitsi's place does not count"},
		{"map-room-two", wrong, "keycloak-client", "", meeting(`["standup","retro"]`), "two rooms"},
		{"map-room-none", wrong, "keycloak-client", "", meeting(`[]`), "no room in the array"},
		{"map-room-null", wrong, "keycloak-client", "", meeting("null"), "null is not absent"},
		{"map-room-empty", wrong, "keycloak-client", "", meeting(`""`), "empty is not absent"},
		{"map-room-jid", room, "keycloak-client", "", meeting(`"standup@conference.meet.example.com"`), "the claim is the name alone"},
		{"map-room-tenant", "allow owner", "keycloak-client", acmeByDomain, meeting(`"[acme]standup"`), "the tenant in brackets in the claim, in the domain of the address"},
		{"map-room-bare-tenant", room, "keycloak-client", acmeByDomain, meeting(`"standup"`), "nothing names the tenant"},
		{"map-no-wildcard", "allow owner", "no-wildcard-table", "", table(`"daily"`, `"here"`), "no star by the table"},
		{"map-no-wildcard-room", room, "no-wildcard-table", "", table(`"every"`, `"here"`), "a star by the table is a star"},
		{"map-no-wildcard-tenant", tenant, "no-wildcard-table", "", table(`"daily"`, `"everywhere"`), "a star by the table is a star"},
		{"map-no-wildcard-unmapped", wrong, "no-wildcard-table", "", table(`"*"`, `"here"`), "a star that is not in the table"},
		{"map-tenant", "allow owner", "organisation", acmeRoom, organisation(`{"name":"Acme Inc."}`), "the tenant by the table; sub is not read"},
		{"map-tenant-domain", "allow owner", "organisation", acmeByDomain, organisation(`{"name":"Acme Inc."}`), "the client's spelling"},
		{"map-tenant-star", "allow owner", "organisation", acmeRoom, organisation(`{"name":"Head Office"}`), "every tenant by the table"},
		{"map-tenant-other", tenant, "organisation", acmeRoom, organisation(`{"name":"Other"}`), "another tenant"},
		{"map-tenant-sub", tenant, "organisation", acmeRoom, organisation(`{}`, `sub="acme"`), "the tenant is mapped: sub does not count"},
		{"map-tenant-unmapped", wrong, "organisation", acmeRoom, organisation(`{"name":"acme"}`), "a tenant that is not in the table"},
		{"domain-both", "deny room-unknown", "organisation", "[acme]standup@conference.acme.meet.example.com", organisation(`{"name":"Acme Inc."}`), "a tenant in brackets and in the domain"},
		{"domain-nested", "deny room-unknown", "organisation", "standup@conference.a.acme.meet.example.com", organisation(`{"name":"Head Office"}`), "a tenant is one label"},
		{"domain-other-prefix", "deny room-unknown", "organisation", "standup@muc.acme.meet.example.com", organisation(`{"name":"Acme Inc."}`), "another service's prefix"},
		{"domain-international", "deny room-unknown", "organisation", "standup@conference.xn--bcher-kva.meet.example.com", organisation(`{"name":"Head Office"}`), "servers differ on what this label is"},
		{"domain-other-tenant", tenant, "meet", acmeByDomain, claims(), "the domain is no tenant"},
	})
}

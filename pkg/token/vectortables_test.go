package token_test

import (
	"cmp"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lestrrat-go/jwx/v2/jwa"
	"github.com/lestrrat-go/jwx/v2/jws"
)

// Where nothing else is said, a vector asks for this room, now, with a token of an hour.
const (
	vectorRoom = "standup@conference.meet.example.com"
	vectorTime = "2026-06-01T12:00:00Z"
	now        = 1780315200 // vectorTime in seconds since 1970
)

// claims returns a payload that is right for every vhost, with changes: "name=JSON" sets a claim, "name" drops it.
func claims(changes ...string) string {
	members := []string{
		`iss="my_app"`, `aud="jitsi"`, `sub="meet.example.com"`, `room="standup"`,
		fmt.Sprintf("iat=%d", now-60), fmt.Sprintf("exp=%d", now+3600),
	}
	for _, change := range changes {
		name, _, sets := strings.Cut(change, "=")
		at := 0
		for at < len(members) && !strings.HasPrefix(members[at], name+"=") {
			at++
		}
		switch {
		case at == len(members):
			members = append(members, change)
		case sets:
			members[at] = change
		default:
			members = append(members[:at], members[at+1:]...)
		}
	}
	for i, member := range members {
		name, value, _ := strings.Cut(member, "=")
		members[i] = `"` + name + `":` + value
	}
	return "{" + strings.Join(members, ",") + "}"
}

func user(members string) string {
	return `context={"user":{` + members + `}}`
}

// sign signs any header and payload with any key.
func sign(t testing.TB, algorithm jwa.SignatureAlgorithm, key any, header, payload string) string {
	t.Helper()
	signer, err := jws.NewSigner(algorithm)
	if err != nil {
		t.Fatal(err)
	}
	signed := encode(header) + "." + encode(payload)
	signature, err := signer.Sign([]byte(signed), key)
	if err != nil {
		t.Fatal(err)
	}
	return signed + "." + encode(string(signature))
}

func headerOf(algorithm string) string { return `{"alg":"` + algorithm + `","typ":"JWT"}` }

// vectors returns all vectors that are made here. The tables are in the order in which a token is looked at.
func vectors(t testing.TB) []vector {
	all := slices.Concat(formVectors(t), jsonVectors(t), headerVectors(t), algorithmVectors(t), signatureVectors(t),
		issuerVectors(t), timeVectors(t), typeVectors(t), affiliationVectors(t), roomVectors(t), tenantVectors(t),
		issuerShapeVectors(t), claimMapVectors(t))
	for i := range all {
		v := &all[i]
		v.vhost = cmp.Or(v.vhost, "meet.example.com")
		v.room = cmp.Or(v.room, vectorRoom)
		v.at = vectorTime
	}
	return all
}

// payloadVectors makes vectors with a right header, for a vhost with a secret.
func payloadVectors(t testing.TB, vhost string, rows [][4]string) []vector {
	var all []vector
	for _, row := range rows {
		all = append(all, vector{
			name: row[0], expect: row[1], vhost: vhost, token: hs256(t, headerOf("HS256"), row[2]), comment: row[3],
		})
	}
	return all
}

// textVectors makes vectors of tokens as they stand.
func textVectors(rows [][4]string) []vector {
	var all []vector
	for _, row := range rows {
		all = append(all, vector{name: row[0], expect: row[1], token: row[2], comment: row[3]})
	}
	return all
}

// signedVectors makes vectors of a header and the payload that is right, signed with the secret.
func signedVectors(t testing.TB, rows [][4]string) []vector {
	for i := range rows {
		rows[i][2] = hs256(t, rows[i][2], claims())
	}
	return textVectors(rows)
}

func formVectors(t testing.TB) []vector {
	good := hs256(t, headerOf("HS256"), claims())
	parts := strings.Split(good, ".")
	header, payload, signature := parts[0], parts[1], parts[2]
	last := signature[:len(signature)-1]
	// The last of 43 characters carries two bits that mean nothing, 00 in what an encoder writes: its neighbour in the
	// alphabet decodes to the same.
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	stray := last + alphabet[strings.Index(alphabet, signature[42:])+1:][:1]

	// A token of exactly MaxSize: its user's name fills it up. Four characters carry three bytes, so that the last few
	// are made up by the length of the key id.
	sized := func(size int) string {
		for kid := range 8 {
			for name := 5700; name < 6200; name++ {
				header := `{"alg":"HS256","kid":"` + strings.Repeat("k", kid) + `","typ":"JWT"}`
				payload := claims(user(`"name":"` + strings.Repeat("n", name) + `"`))
				if (len(header)*4+2)/3+1+(len(payload)*4+2)/3+1+43 == size {
					return hs256(t, header, payload)
				}
			}
		}
		t.Fatalf("no token of %d bytes", size)
		return ""
	}
	jwe := encode(`{"alg":"PBES2-HS256+A128KW","enc":"A128GCM","p2c":2147483648,"zip":"DEF"}`) + ".a2V5.aXY.dGV4dA.dGFn"
	malformed := "deny token-malformed"
	return textVectors([][4]string{
		{"no-token", "deny token-required", "", "no token, and the vhost takes nobody without one"},
		{"size-8192", "allow owner", sized(8192), "the longest token that is read"},
		{"size-8193", malformed, sized(8193), "one byte too long, and right but for that"},
		{"form-garbage", malformed, "garbage", "no dot at all"},
		{"form-two-parts", malformed, header + "." + payload, "no signature part (not even an empty one)"},
		{"form-four-parts", malformed, good + ".", "a dot at the end; Jitsi's splitter takes it"},
		{"form-empty-part", malformed, header + ".." + payload + "." + signature, "an empty part; Jitsi's splitter takes it"},
		{"form-leading-dot", malformed, "." + good, "a dot at the start; Jitsi's splitter takes it"},
		{"form-empty-header", malformed, "." + payload + "." + signature, "the header is empty"},
		{"form-empty-payload", malformed, header + ".." + signature, "the payload is empty"},
		{"form-dots", malformed, strings.Repeat(".", 8000), "dots and nothing else (CVE-2025-30204)"},
		{"form-jwe", malformed, jwe, "five parts are an encrypted token: nothing is derived or inflated (CVE-2024-28180)"},
		{"form-json-serialization", malformed,
			`{"payload":"` + payload + `","protected":"` + header + `","signature":"` + signature + `"}`,
			"JWS JSON serialisation"},
		{"form-bearer", malformed, "Bearer " + good, "an HTTP header's value, not a token"},
		{"form-leading-space", malformed, " " + good, "a space before it"},
		{"form-trailing-newline", malformed, good + "\n", "a line feed after it"},
		{"form-line-break", malformed, header + "." + payload[:20] + "\r\n" + payload[20:] + "." + signature,
			"a line break inside, which base64 decoders skip"},
		{"form-padding", malformed, good + "=", "padding, as base64 has it and base64url in a JWS has not"},
		{"form-base64-alphabet", malformed, header + "." + payload + "." + last + "+", "a plus where base64url has a minus"},
		{"form-stray-bits", malformed, header + "." + payload + "." + stray,
			"the same signature spelled with stray bits, which most decoders ignore"},
	})
}

func jsonVectors(t testing.TB) []vector {
	malformed := "deny token-malformed"
	nested := func(depth int) string {
		return claims("x=" + strings.Repeat("[", depth-1) + strings.Repeat("]", depth-1))
	}
	return payloadVectors(t, "", [][4]string{
		{"json-duplicate-claim", malformed, claims(`nbf=1,"room":"other"`), "room twice: the last wins in most libraries, the first in some"},
		{"json-duplicate-escaped", malformed, claims(`nbf=1,"\u0072oom":"other"`), "room twice, once spelled with an escape"},
		{"json-duplicate-case", malformed, claims(`ROOM="other"`), "room and ROOM: the same member for encoding/json"},
		{"json-duplicate-nested", malformed, claims(user(`"affiliation":"member","affiliation":"owner"`)), "an affiliation twice"},
		{"json-case-variant", malformed, claims("room", `Room="standup"`), "Room and no room: refused, for some readers take it for room"},
		{"json-case-variant-long-s", malformed, claims("sub", `ſub="*"`), "sub spelled with U+017F, which encoding/json takes for s"},
		{"json-case-variant-lobby", malformed, claims(user(`"Lobby_Bypass":true`)), "context.user.Lobby_Bypass"},
		{"json-case-variant-nested", malformed, claims(user(`"Affiliation":"owner"`)), "context.user.Affiliation"},
		{"json-escaped-name", "allow owner", strings.Replace(claims(), `"room"`, `"\u0072oom"`, 1), "room spelled with an escape, once: it is the same name (RFC 8259)"},
		{"json-bom", malformed, "\ufeff" + claims(), "a byte order mark"},
		{"json-space", "allow owner", "\r\n\t " + claims() + " \n", "space around the object is JSON"},
		{"json-trailing", malformed, claims() + "{}", "a second object after the first"},
		{"json-trailing-comma", malformed, strings.Replace(claims(), "}", ",}", 1), "a comma before the brace"},
		{"json-comment", malformed, strings.Replace(claims(), ",", ",/**/", 1), "a comment"},
		{"json-nan", malformed, claims("nbf=NaN"), "NaN is no JSON"},
		{"json-number-leading-zero", malformed, claims("nbf=01"), "01 is no JSON"},
		{"json-single-quotes", malformed, strings.ReplaceAll(claims(), `"`, `'`), "single quotes"},
		{"json-array", malformed, "[" + claims() + "]", "the payload is an array"},
		{"json-string", malformed, `"room"`, "the payload is a string"},
		{"json-null", malformed, `null`, "the payload is null"},
		{"json-invalid-utf8", malformed, claims("room=\"standup\xff\""), "not UTF-8: encoding/json reads U+FFFD"},
		{"json-overlong-utf8", malformed, claims("room=\"standup\xc0\xaf\""), "a slash in two bytes"},
		{"json-lone-surrogate", malformed, claims(`room="standup\ud800"`), "half a surrogate pair: encoding/json reads U+FFFD"},
		{"json-surrogates-swapped", malformed, claims(`room="\udc00\ud800"`), "a surrogate pair in the wrong order"},
		{"json-nul", malformed, claims(`room="standup\u0000"`), "U+0000 ends a string in C"},
		{"json-control-character", malformed, claims("room=\"standup\n\""), "a raw line feed in a string"},
		{"json-depth-16", "allow owner", nested(16), "as deep as is read, in a claim that is not"},
		{"json-depth-17", malformed, nested(17), "one level deeper"},
		{"json-depth-thousands", malformed, "{\"context\":" + strings.Repeat("[", 5000), "brackets and nothing else (CVE-2026-116586)"},
	})
}

func headerVectors(t testing.TB) []vector {
	malformed := "deny token-malformed"
	rows := [][4]string{
		{"header-typ-lower-case", "allow owner", `{"alg":"HS256","typ":"jwt"}`, "typ is compared without case (RFC 7519 section 5.1)"},
		{"header-typ-absent", "allow owner", `{"alg":"HS256"}`, "typ is optional (RFC 7519 section 5.1), though Jitsi wants it"},
		{"header-typ-access-token", malformed, `{"alg":"HS256","typ":"at+jwt"}`, "an access token of OAuth (RFC 9068) is no token for rooms"},
		{"header-typ-empty", malformed, `{"alg":"HS256","typ":""}`, "typ is empty"},
		{"header-typ-number", malformed, `{"alg":"HS256","typ":1}`, "typ is a number"},
		{"header-crit", malformed, `{"alg":"HS256","crit":["urn:x"],"urn:x":1,"typ":"JWT"}`, "a critical extension that nobody knows (RFC 7515 section 4.1.11)"},
		{"header-crit-empty", malformed, `{"alg":"HS256","crit":[],"typ":"JWT"}`, "crit must not be empty"},
		{"header-crit-case", malformed, `{"alg":"HS256","Crit":["exp"],"typ":"JWT"}`, "Crit for crit"},
		{"header-b64-false", malformed, `{"alg":"HS256","b64":false,"typ":"JWT"}`, "a payload that is not base64url (RFC 7797)"},
		{"header-duplicate-alg", malformed, `{"alg":"none","typ":"JWT","alg":"HS256"}`, "alg twice"},
		{"header-alg-case", malformed, `{"Alg":"none","alg":"HS256","typ":"JWT"}`, "Alg and alg"},
		{"header-kid-kelvin", malformed, `{"alg":"HS256","kid":"a","` + "\u212Aid" + `":"b","typ":"JWT"}`, "kid twice, once with a Kelvin sign, which encoding/json takes for k"},
		{"header-kid-kelvin-alone", malformed, `{"alg":"HS256","` + "\u212Aid" + `":"b","typ":"JWT"}`, "kid with a Kelvin sign"},
		{"header-array", malformed, `["HS256"]`, "the header is an array"},
		{"header-nesting", malformed, `{"alg":"HS256","x":` + strings.Repeat("[", 20) + strings.Repeat("]", 20) + `}`, "a deep header"},
		{"header-unknown-parameter", "allow owner", `{"alg":"HS256","typ":"JWT","x":{"y":[1,null]}}`, "unknown parameters are ignored (RFC 7515 section 4)"},
		{"kid-number", malformed, `{"alg":"HS256","kid":1,"typ":"JWT"}`, "kid must be a string (RFC 7515 section 4.1.4)"},
		{"kid-nul", malformed, `{"alg":"HS256","kid":"a\u0000b","typ":"JWT"}`, "U+0000 in a kid"},
		{"kid-10-kB", malformed, `{"alg":"HS256","kid":"` + strings.Repeat("k", 10_000) + `","typ":"JWT"}`, "a kid that is longer than a token may be"},
	}
	// A kid is a name and nothing else. The secret has none and is tried for each; so these are right, and no path is
	// built of them.
	for name, kid := range map[string]string{
		"path": "../../dev/null", "sql": "' UNION SELECT 'secret", "star": "*", "empty": "", "url": "http://attacker.example/",
		"4-kB": strings.Repeat("k", 4096),
	} {
		rows = append(rows, [4]string{"kid-" + name, "allow owner", `{"alg":"HS256","kid":"` + kid + `","typ":"JWT"}`,
			"a kid that names no key: the secret has no name and is tried for every kid (assumed of auth.KeySource)"})
	}
	all := signedVectors(t, rows)
	return append(all, vector{
		name: "kid-path-wrong-key", expect: "deny token-signature", comment: "signed with the empty file that the kid points to",
		token: signedWith([]byte{0}, `{"alg":"HS256","kid":"../../dev/null","typ":"JWT"}`, claims()),
	})
}

func algorithmVectors(t testing.TB) []vector {
	rsaKey := privateKey(t, "rsa2048").(*rsa.PrivateKey)
	algorithm, malformed, signature := "deny token-algorithm", "deny token-malformed", "deny token-signature"

	var all []vector
	for i, none := range []string{"none", "None", "NONE", "nOnE"} {
		all = append(all, vector{
			name: fmt.Sprintf("alg-none-%d", i+1), expect: algorithm, comment: "alg " + none + ", signature empty",
			token: encode(headerOf(none)) + "." + encode(claims()) + ".",
		})
	}
	all = append(all, signedVectors(t, [][4]string{
		{"alg-none-signed", algorithm, headerOf("none"), "alg none, and a signature that is right for HS256"},
		{"alg-absent", malformed, `{"typ":"JWT"}`, "no alg"},
		{"alg-empty", malformed, headerOf(""), "alg is empty"},
		{"alg-number", malformed, `{"alg":256,"typ":"JWT"}`, "alg is a number"},
		{"alg-array", malformed, `{"alg":["HS256"],"typ":"JWT"}`, "alg is an array"},
		{"alg-null", malformed, `{"alg":null,"typ":"JWT"}`, "alg is null"},
		{"alg-lower-case", algorithm, headerOf("hs256"), "alg is compared as it stands (RFC 7515 section 4.1.1)"},
		{"alg-trailing-space", algorithm, headerOf("HS256 "), "alg with a space after it"},
		{"alg-unknown", algorithm, headerOf("HS257"), "an algorithm that nobody knows"},
		{"alg-says-hs512", algorithm, headerOf("HS512"), "HS512 in the header, HS256 in the signature"},
		{"alg-says-rs256", algorithm, headerOf("RS256"), "RS256 for an issuer of HS256"},
	})...)
	for _, wrong := range []jwa.SignatureAlgorithm{jwa.HS384, jwa.HS512} {
		all = append(all, vector{
			name: "alg-" + strings.ToLower(wrong.String()), expect: algorithm, comment: "rightly signed with an algorithm that is not configured",
			token: sign(t, wrong, secret(t), headerOf(wrong.String()), claims()),
		})
	}

	type row struct {
		vhost     string
		algorithm jwa.SignatureAlgorithm
		key       string
		expect    string
	}
	for _, row := range []row{
		{"rs", jwa.RS256, "rsa2048", "allow owner"},
		{"rs", jwa.RS512, "rsa2048", algorithm},
		{"rsps", jwa.RS256, "rsa2048", "allow owner"},
		{"rsps", jwa.PS256, "rsa2048", "allow owner"},
		{"es", jwa.ES256, "ec256", "allow owner"},
		{"es", jwa.RS256, "rsa2048", algorithm},
		{"ed", jwa.EdDSA, "ed25519", "allow owner"},
		{"rs", jwa.RS256, "rsa2048-other", signature},
		{"rsps", jwa.RS256, "rsa2048-other", signature},
	} {
		comment := fmt.Sprintf("rightly signed with %s by %s", row.algorithm, row.key)
		all = append(all, vector{
			name:   strings.ToLower(fmt.Sprintf("alg-%s-%s-by-%s", row.vhost, row.algorithm, row.key)),
			expect: row.expect, vhost: row.vhost + ".example.com", comment: comment,
			token: sign(t, row.algorithm, privateKey(t, row.key), headerOf(row.algorithm.String()), claims()),
		})
	}
	// PS256 never signs twice the same, and this one is not looked at so far; so its signature is fixed.
	all = append(all, vector{
		name: "alg-ps256-for-rs256", expect: algorithm, vhost: "rs.example.com",
		comment: "PS256 with a key that is configured for RS256 only (the algorithm is refused before the signature is looked at)",
		token:   encode(headerOf("PS256")) + "." + encode(claims()) + "." + encode(strings.Repeat("\x01", 256)),
	})

	for _, salt := range []struct {
		length          int
		expect, comment string
	}{
		{32, "allow owner", "as long as the hash (RFC 7518 section 3.5)"},
		{0, signature, "no salt"},
		{20, signature, "as long as SHA-1, the default of RFC 8017"},
		{31, signature, "one byte less than the hash"},
		{33, signature, "one byte more than the hash"},
		{222, signature, "as long as it can be, which OpenSSL signs with unless told otherwise"},
	} {
		signed := encode(headerOf("PS256")) + "." + encode(claims())
		all = append(all, vector{
			name: fmt.Sprintf("alg-ps256-salt-%d", salt.length), expect: salt.expect, vhost: "rsps.example.com",
			comment: "PS256 with a salt of so many bytes: " + salt.comment,
			token:   signed + "." + encode(string(pss(rsaKey, signed, salt.length))),
		})
	}

	// What an attacker has of an RSA key is public. None of it is a secret.
	pemText := readKeyFile(t, "rsa2048.pem")
	block, _ := pem.Decode(pemText)
	jwk := fmt.Sprintf(`{"e":"AQAB","kty":"RSA","n":"%s"}`, encode(string(rsaKey.N.Bytes())))
	for name, public := range map[string][]byte{
		"pem": pemText, "pem-no-newline": []byte(strings.TrimSpace(string(pemText))), "der": block.Bytes,
		"jwk": []byte(jwk), "modulus": rsaKey.N.Bytes(),
	} {
		all = append(all, vector{
			name: "confusion-" + name, expect: algorithm, vhost: "rs.example.com",
			comment: "HS256 with the public RSA key for a secret (CVE-2021-39215, Jitsi's own)",
			token:   signedWith(public, headerOf("HS256"), claims()),
		}, vector{
			name: "confusion-rs256-" + name, expect: signature, vhost: "rs.example.com",
			comment: "the same, and RS256 in the header",
			token:   signedWith(public, headerOf("RS256"), claims()),
		})
	}

	// Keys that the token brings along, or tells where to fetch.
	other := privateKey(t, "rsa2048-other").(*rsa.PrivateKey)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "attacker.example"},
		NotBefore: time.Unix(0, 0), NotAfter: time.Unix(now*2, 0),
	}
	certificate, err := x509.CreateCertificate(nil, template, template, other.Public(), other)
	if err != nil {
		t.Fatal(err)
	}
	for name, parameter := range map[string]string{
		"jwk":          fmt.Sprintf(`"jwk":{"e":"AQAB","kty":"RSA","n":"%s"}`, encode(string(other.N.Bytes()))),
		"x5c":          `"x5c":["` + base64.StdEncoding.EncodeToString(certificate) + `"]`,
		"jku":          `"jku":"https://attacker.example/jwks.json","kid":"attacker"`,
		"jku-internal": `"jku":"http://127.0.0.1:5280/jwks.json"`,
		"x5u-file":     `"x5u":"file:///etc/ssl/certs/attacker.pem"`,
	} {
		all = append(all, vector{
			name: "embedded-" + name, expect: signature, vhost: "rs.example.com",
			comment: "signed with a key that the token itself vouches for (CVE-2018-0114): not read, nothing is fetched",
			token:   sign(t, jwa.RS256, other, `{"alg":"RS256",`+parameter+`,"typ":"JWT"}`, claims()),
		})
	}
	return all
}

// pss signs by RSASSA-PSS (RFC 8017 §8.1.1, §9.1.1) with SHA-256 and a salt of zeros.
func pss(key *rsa.PrivateKey, message string, saltLength int) []byte {
	salt := make([]byte, saltLength)
	digest := sha256.Sum256([]byte(message))
	hash := sha256.Sum256(slices.Concat(make([]byte, 8), digest[:], salt))
	encoded := slices.Concat(make([]byte, key.Size()-len(hash)-2-saltLength), []byte{1}, salt)
	for at, counter := 0, byte(0); at < len(encoded); counter++ {
		mask := sha256.Sum256(append(hash[:], 0, 0, 0, counter))
		for i := 0; i < len(mask) && at < len(encoded); i, at = i+1, at+1 {
			encoded[at] ^= mask[i]
		}
	}
	encoded[0] &= 0x7f // the modulus has as many bits as bytes have room for
	encoded = slices.Concat(encoded, hash[:], []byte{0xbc})
	return new(big.Int).Exp(new(big.Int).SetBytes(encoded), key.D, key.N).FillBytes(make([]byte, key.Size()))
}

func signatureVectors(t testing.TB) []vector {
	good := hs256(t, headerOf("HS256"), claims())
	parts := strings.Split(good, ".")
	other := strings.Split(hs256(t, headerOf("HS256"), claims(`room="other"`)), ".")
	signature := "deny token-signature"
	first := "A"
	if parts[2][:1] == first {
		first = "B"
	}
	all := textVectors([][4]string{
		{"signature-empty", signature, parts[0] + "." + parts[1] + ".", "HS256 and an empty signature"},
		{"signature-truncated", signature, parts[0] + "." + parts[1] + "." + parts[2][:40], "30 of 32 bytes"},
		{"signature-longer", signature, parts[0] + "." + parts[1] + "." + parts[2][:40] + "AAAAAAAA", "36 bytes"},
		{"signature-flipped", signature, parts[0] + "." + parts[1] + "." + first + parts[2][1:], "the first character is another"},
		{"signature-of-other-token", signature, parts[0] + "." + other[1] + "." + parts[2], "the signature of another token"},
		{"signature-wrong-secret", signature, signedWith([]byte("another secret of thirty-two bytes"), headerOf("HS256"), claims()), "signed with another secret"},
		{"signature-secret-with-newline", signature, signedWith(append(secret(t), '\n'), headerOf("HS256"), claims()), "signed with the line, its line feed included"},
		{"signature-empty-secret", signature, signedWith(nil, headerOf("HS256"), claims()), "signed with an empty secret"},
		{"signature-wrong-and-expired", signature, signedWith(nil, headerOf("HS256"), claims(fmt.Sprintf("exp=%d", now-3600))),
			"a token is expired only if it is one: signature first (CVE-2024-51744)"},
		{"signature-wrong-and-claims", signature, signedWith(nil, headerOf("HS256"), claims(`exp="never"`)), "signature before claims"},
	})
	order := privateKey(t, "ec256").(*ecdsa.PrivateKey).Params().N.Bytes()
	for _, row := range [][4]string{
		{"psychic-zero", "es.example.com", strings.Repeat("\x00", 64), "ES256 with r = s = 0 (CVE-2022-21449)"},
		{"psychic-order", "es.example.com", string(order) + string(order), "ES256 with r = s = the order of the curve, which is 0 again"},
		{"psychic-short", "es.example.com", "\x00", "ES256 with a signature of one byte"},
		{"psychic-ed25519", "ed.example.com", strings.Repeat("\x00", 64), "EdDSA with a signature of zeros"},
	} {
		algorithm := map[string]string{"es.example.com": "ES256", "ed.example.com": "EdDSA"}[row[1]]
		all = append(all, vector{
			name: row[0], vhost: row[1], expect: signature, comment: row[3],
			token: encode(headerOf(algorithm)) + "." + encode(claims()) + "." + encode(row[2]),
		})
	}
	return all
}

func issuerVectors(t testing.TB) []vector {
	issuer, audience, wrong := "deny token-issuer", "deny token-audience", "deny token-claims"
	first := "an issuer that is no string is nobody: the issuer is looked for first, to find its keys (assumed)"
	all := payloadVectors(t, "", [][4]string{
		{"iss-other", issuer, claims(`iss="other_app"`), "an issuer that the vhost does not have"},
		{"iss-trailing-slash", issuer, claims(`iss="my_app/"`), "iss is compared as it stands"},
		{"iss-upper-case", issuer, claims(`iss="MY_APP"`), "iss is compared as it stands"},
		{"iss-star", issuer, claims(`iss="*"`), "a star is no wildcard in a token"},
		{"iss-absent", issuer, claims("iss"), "no issuer"},
		{"iss-empty", issuer, claims(`iss=""`), "the issuer is empty"},
		{"iss-number", issuer, claims("iss=1"), first},
		{"iss-array", issuer, claims(`iss=["my_app"]`), first},
		{"aud-any", "allow owner", claims(`aud="something else"`), "this vhost takes any audience"},
		{"aud-any-array", "allow owner", claims(`aud=["a","b"]`), "this vhost takes any audience"},
		{"aud-any-absent", audience, claims("aud"), "any audience, but one there must be, as in Jitsi (assumed: the strict reading)"},
	})
	return append(all, payloadVectors(t, "aud.example.com", [][4]string{
		{"aud-string", "allow owner", claims(`aud="jitsi"`), "the audience that is accepted"},
		{"aud-array", "allow owner", claims(`aud=["other","jitsi"]`), "one of several is enough (RFC 7519 section 4.1.3)"},
		{"aud-array-others", audience, claims(`aud=["x","us"]`), "none of them (CVE-2020-26160)"},
		{"aud-other", audience, claims(`aud="other"`), "another audience"},
		{"aud-array-empty", audience, claims("aud=[]"), "no audience in the array"},
		{"aud-absent", audience, claims("aud"), "no audience"},
		{"aud-star", audience, claims(`aud="*"`), "a star is no wildcard in a token"},
		{"aud-upper-case", audience, claims(`aud="JITSI"`), "aud is compared as it stands"},
		{"aud-substring", audience, claims(`aud="jitsi,other"`), "aud is compared as a whole"},
		{"aud-empty", wrong, claims(`aud=""`), "the audience is empty"},
		{"aud-array-empty-string", wrong, claims(`aud=["jitsi",""]`), "one of them is empty"},
		{"aud-number", wrong, claims("aud=1"), "a number"},
		{"aud-null", wrong, claims("aud=null"), "null"},
		{"aud-nested", wrong, claims(`aud=[["jitsi"]]`), "an array in an array"},
		{"aud-object", wrong, claims(`aud={"jitsi":true}`), "an object"},
	})...)
}

func timeVectors(t testing.TB) []vector {
	expired, early, wrong := "deny token-expired", "deny token-not-yet-valid", "deny token-claims"
	at := func(name string, seconds int) string { return fmt.Sprintf("%s=%d", name, now+seconds) }
	all := payloadVectors(t, "", [][4]string{
		{"exp-hour-ago", expired, claims(at("exp", -3600)), "expired an hour before"},
		{"exp-now", "allow owner", claims(at("exp", 0)), "expires this second: the leeway is 10 s"},
		{"exp-within-leeway", "allow owner", claims(at("exp", -9)), "expired 9 s before, within the leeway"},
		{"exp-at-leeway", expired, claims(at("exp", -10)), "expired 10 s before: on exp plus leeway it is over (RFC 7519 section 4.1.4: on or after)"},
		{"exp-fraction-within", "allow owner", claims(fmt.Sprintf("exp=%d.5", now-10)), "a fraction of a second counts: 9.5 s ago"},
		{"exp-fraction", "allow owner", claims("exp=1780318800.5"), "fractions are allowed (RFC 7519 section 2)"},
		{"exp-exponent", "allow owner", claims("exp=1.7803188e9"), "so are exponents"},
		{"exp-zero", expired, claims("exp=0"), "1970 is not absent"},
		{"exp-greatest", "allow owner", claims("exp=253402300799"), "the last second of the year 9999, after which times cannot be written down"},
		{"exp-greatest-fraction", "allow owner", claims("exp=253402300799.9"), "the last moment of it"},
		{"exp-year-10000", wrong, claims("exp=253402300800"), "one second later"},
		{"exp-milliseconds", wrong, claims(fmt.Sprintf("exp=%d", (now+3600)*1000)), "milliseconds, as Date.now() gives: refused, else it would be good for 54,000 years"},
		{"exp-2-53-minus-1", wrong, claims("exp=9007199254740991"), "2^53-1, the greatest that is exact in a float"},
		{"exp-ten-years", "allow owner", claims(at("exp", 10*365*86400)), "a lifetime of ten years (assumed: there is no limit to it)"},
		{"exp-absent", wrong, claims("exp"), "no exp, and the vhost requires one"},
		{"exp-2-53", wrong, claims("exp=9007199254740992"), "2^53"},
		{"exp-2-53-plus-1", wrong, claims("exp=9007199254740993"), "2^53+1, which a float takes for 2^53"},
		{"exp-2-63", wrong, claims("exp=9223372036854775808"), "2^63, which is negative in an int64"},
		{"exp-1e400", wrong, claims("exp=1e400"), "infinite in a float"},
		{"exp-negative", wrong, claims("exp=-1"), "negative"},
		{"exp-quoted", wrong, claims(fmt.Sprintf(`exp="%d"`, now+3600)), "a string, which json.Number takes"},
		{"exp-null", wrong, claims("exp=null"), "null is not absent"},
		{"exp-true", wrong, claims("exp=true"), "true"},
		{"exp-array", wrong, claims(fmt.Sprintf("exp=[%d]", now+3600)), "an array"},
		{"nbf-past", "allow owner", claims(at("nbf", -60)), "valid for a minute"},
		{"nbf-future", early, claims(at("nbf", 60)), "valid in a minute"},
		{"nbf-within-leeway", "allow owner", claims(at("nbf", 10)), "valid in 10 s, which is the leeway"},
		{"nbf-beyond-leeway", early, claims(at("nbf", 11)), "valid in 11 s"},
		{"nbf-after-exp", early, claims(at("exp", 60), at("nbf", 120)), "never valid"},
		{"nbf-milliseconds", wrong, claims(fmt.Sprintf("nbf=%d", (now-60)*1000)), "milliseconds"},
		{"nbf-quoted", wrong, claims(fmt.Sprintf(`nbf="%d"`, now-60)), "a string"},
		{"iat-quoted", wrong, claims(fmt.Sprintf(`iat="%d"`, now-60)), "a string"},
		{"iat-milliseconds", wrong, claims(fmt.Sprintf("iat=%d", now*1000)), "milliseconds"},
		{"iat-absent", "allow owner", claims("iat"), "iat is optional"},
		{"iat-null", "allow owner", claims("iat=null"), "so null is as good as absent"},
		{"iat-minute-ahead", "allow owner", claims(at("iat", 60)), "a library set it by a clock that is a minute ahead; Jitsi ignores iat"},
		{"iat-day-ahead", "allow owner", claims(at("iat", 86400), at("exp", 2*86400)), "made in 24 h: local time for UTC, at the worst"},
		{"iat-over-day-ahead", early, claims(at("iat", 86401), at("exp", 2*86400)), "made later than in 24 h"},
		{"iat-2099", early, claims("iat=4070908800", "exp=4070912400"), "made in 2099"},
	})
	return append(all, payloadVectors(t, "open.example.com", [][4]string{
		{"open-exp-absent", "allow owner", claims("exp"), "no exp, and the vhost requires none"},
		{"open-exp-hour-ago", expired, claims(at("exp", -3600)), "the vhost requires no exp, but heeds one"},
		{"open-exp-null", wrong, claims("exp=null"), "null is not absent"},
	})...)
}

func typeVectors(t testing.TB) []vector {
	wrong := "deny token-claims"
	return payloadVectors(t, "", [][4]string{
		{"type-room-number", wrong, claims("room=1"), "room is a number"},
		{"type-room-array", wrong, claims(`room=["standup"]`), "room is an array"},
		{"type-room-null", wrong, claims("room=null"), "room is null"},
		{"type-room-empty", wrong, claims(`room=""`), "room is empty, which is no room"},
		{"type-sub-number", wrong, claims("sub=1"), "sub is a number"},
		{"type-sub-empty", wrong, claims(`sub=""`), "sub is empty, which is no tenant"},
		{"type-jti-number", "allow owner", claims("jti=1"), "jti is a number, and decides nothing"},
		{"type-jti-null", "allow owner", claims("jti=null"), "jti is null"},
		{"type-jti-array", "allow owner", claims("jti=[1]"), "jti is an array"},
		{"type-context-string", wrong, claims(`context="user"`), "context is a string"},
		{"type-context-null", "allow owner", claims("context=null"), "context is null, which is absent (Java)"},
		{"type-context-empty-array", "allow owner", claims("context=[]"), "an empty array is an empty object (PHP)"},
		{"type-context-array", wrong, claims(`context=[{"user":{"affiliation":"member"}}]`), "context is an array that is not empty"},
		{"type-context-all-empty-arrays", "allow owner", claims(`context={"user":[],"group":[],"features":[],"room":[]}`), "what PHP makes of empty objects"},
		{"type-context-all-null", "allow owner", claims(`context={"user":null,"group":null,"features":null,"room":null,"tenant":null}`), "what Java makes of absent ones"},
		{"type-user-array", wrong, claims(`context={"user":["member"]}`), "context.user is an array"},
		{"type-user-string", wrong, claims(`context={"user":"juliet"}`), "context.user is a string"},
		{"type-user-id-number", "allow owner", claims(user(`"id":1`)), "issuers send the number of their database"},
		{"type-user-id-fraction", "allow owner", claims(user(`"id":1.5`)), "an id decides nothing"},
		{"type-user-id-null", "allow owner", claims(user(`"id":null`)), "an id decides nothing"},
		{"type-user-id-array", "allow owner", claims(user(`"id":[1]`)), "an id decides nothing"},
		{"type-user-labels-odd", "allow owner", claims(user(`"id":true,"name":{"first":"Juliet"},"email":["juliet@example.com"],"avatar":false`)), "nor does what is only shown"},
		{"type-user-name-null", "allow owner", claims(user(`"name":null,"email":null,"avatar":null`)), "issuers send null for what is only shown"},
		{"type-user-name-number", "allow owner", claims(user(`"name":1`)), "context.user.name is a number"},
		{"type-group-null", "allow owner", claims(`context={"group":null}`), "a group decides nothing"},
		{"type-tenant-null", "allow owner", claims(`context={"tenant":null}`), "without a tenant a token opens no more than with any"},
		{"type-nbf-null", wrong, claims("nbf=null"), "null is no time: Jitsi refuses it, too"},
		{"type-group-number", "allow owner", claims(`context={"group":1}`), "context.group is a number"},
		{"type-group-array", "allow owner", claims(`context={"group":["a","b"]}`), "context.group is an array"},
		{"type-tenant-number", wrong, claims(`context={"tenant":1}`), "context.tenant is a number"},
		{"type-features-array", "allow owner", claims(`context={"features":["recording"]}`), "features decide nothing at the door; an array allows none"},
		{"type-features-number", "allow owner", claims(`context={"features":{"recording":1}}`), "a feature that is a number is not allowed, and the person is let in"},
		{"type-features-text", "allow owner", claims(`context={"features":{"recording":"yes"}}`), "nor one that is neither true nor false"},
		{"type-features-string", "allow owner", claims(`context={"features":{"recording":"true","livestreaming":"false","flip":true}}`), "features may be strings, as in Jitsi's own examples"},
		{"type-regex-string", "deny room-mismatch", claims(`context={"room":{"regex":"true"}}`), "context.room.regex is \"true\", which Jitsi takes, too: a pattern"},
		{"type-regex-string-false", "allow owner", claims(`context={"room":{"regex":"false"}}`), "\"false\" is false"},
		{"type-regex-number", wrong, claims(`context={"room":{"regex":0}}`), "context.room.regex is a number"},
		{"type-lobby-string", "allow owner", claims(`context={"room":{"lobby":"false"}}`), "\"false\" is false"},
		{"type-lobby-number", wrong, claims(`context={"room":{"lobby":0}}`), "context.room.lobby is a number"},
		{"type-lobby-bypass-string", "allow member", claims(user(`"affiliation":"member","lobby_bypass":"true"`)), "\"true\" is true"},
		{"type-lobby-bypass-number", wrong, claims(user(`"affiliation":"member","lobby_bypass":1`)), "context.user.lobby_bypass is a number"},
		{"type-lobby-bypass-null", "allow member", claims(user(`"affiliation":"member","lobby_bypass":null`)), "null is absent: the policy decides"},
		{"type-context-room-string", wrong, claims(`context={"room":"standup"}`), "context.room is a string"},
	})
}

func affiliationVectors(t testing.TB) []vector {
	wrong := "deny token-claims"
	falseMeans := "an issuer that says false means it: not the default of owner (assumed)"
	rows := [][4]string{
		{"good-owner", "allow owner", claims(user(`"id":"1","name":"Juliet","email":"juliet@example.com","affiliation":"owner"`)), "an owner"},
		{"good-admin", "allow admin", claims(user(`"affiliation":"admin"`)), "an admin"},
		{"good-member", "allow member", claims(user(`"affiliation":"member"`)), "a member (a host is inside, or none is waited for)"},
		{"good-moderator", "allow owner", claims(user(`"affiliation":"moderator"`)), "moderator means owner"},
		{"good-teacher", "allow owner", claims(user(`"affiliation":"teacher"`)), "teacher means owner"},
		{"good-user-moderator", "allow owner", claims(user(`"moderator":true`)), "context.user.moderator"},
		{"good-top-moderator", "allow owner", claims("moderator=true"), "moderator at the top, where some issuers put it"},
		{"good-no-affiliation", "allow owner", claims(user(`"name":"Juliet"`)), "no affiliation: the vhost's default, owner"},
		{"good-no-context", "allow owner", claims(), "no context: the vhost's default, owner"},
		{"good-everything", "allow owner", claims(`jti="1"`, `nbf=1780315000`, `context={"user":{"id":"1","name":"Juliet","email":"juliet@example.com",`+
			`"avatar":"https://example.com/juliet.png","affiliation":"owner","moderator":true},"group":"capulet","features":{"recording":true}}`),
			"all claims that Jitsi has"},
		{"good-unknown-claims", "allow owner", claims(`nonce="1"`, `realm_access={"roles":["Room","admin"]}`, `context={"callee":{"Name":"x"},"user":{"lobby_bypass":true}}`),
			"claims that are not read are ignored, whatever they look like"},
		{"affiliation-over-moderator", "allow member", claims(user(`"affiliation":"member","moderator":true`)), "the affiliation is asked first"},
		{"moderator-user-false", "allow member", claims(user(`"moderator":false`)), falseMeans},
		{"moderator-top-false", "allow member", claims("moderator=false"), falseMeans},
		{"affiliation-none", wrong, claims(user(`"affiliation":"none"`)), "not an affiliation that a token may give"},
		{"affiliation-outcast", wrong, claims(user(`"affiliation":"outcast"`)), "not an affiliation that a token may give"},
		{"affiliation-unknown", wrong, claims(user(`"affiliation":"superuser"`)), "an affiliation that does not exist (Jitsi: member)"},
		{"affiliation-upper-case", wrong, claims(user(`"affiliation":"Owner"`)), "affiliations are lower case"},
		{"affiliation-trailing-space", wrong, claims(user(`"affiliation":"owner "`)), "a space after it"},
		{"affiliation-empty", wrong, claims(user(`"affiliation":""`)), "empty is not absent: it is a word that is not known"},
		{"affiliation-null", "allow owner", claims(user(`"affiliation":null`)), "null is absent (Java): the vhost's default, owner"},
		{"affiliation-null-moderator-false", "allow member", claims(user(`"affiliation":null,"moderator":false`)), "absent, and then the moderator counts"},
		{"affiliation-visitor", wrong, claims(user(`"affiliation":"visitor"`)), "a role of Jitsi's, not an affiliation"},
		{"affiliation-true", wrong, claims(user(`"affiliation":"true"`)), "no word for an affiliation"},
		{"affiliation-number", wrong, claims(user(`"affiliation":0`)), "a number"},
		{"affiliation-array", wrong, claims(user(`"affiliation":["owner"]`)), "an array"},
	}
	for _, value := range []struct{ name, json, expect, comment string }{
		{"true-string", `"true"`, "allow owner", "the text means what it says (8x8's documentation asks for it)"},
		{"false-string", `"false"`, "allow member", "the text means what it says"},
		{"true-string-case", `"True"`, wrong, "only the exact texts do"},
		{"true-string-space", `"true "`, wrong, "only the exact texts do"},
		{"empty-string", `""`, wrong, "only the exact texts do"},
		{"zero", "0", wrong, "a number is neither true nor false"},
		{"one", "1", wrong, "a number is neither true nor false; a claim map can read it (Perl)"},
		{"null", "null", "allow owner", "null is absent (Java): the vhost's default, owner"},
		{"array", "[true]", wrong, "an array is neither true nor false"},
		{"empty-array", "[]", wrong, "an empty one neither"},
	} {
		rows = append(rows,
			[4]string{"moderator-user-" + value.name, value.expect, claims(user(`"moderator":` + value.json)), value.comment},
			[4]string{"moderator-top-" + value.name, value.expect, claims("moderator=" + value.json), value.comment})
	}
	return payloadVectors(t, "", rows)
}

func roomVectors(t testing.TB) []vector {
	const service = "@conference.meet.example.com"
	same, differs := "allow owner", "deny room-mismatch"
	long := strings.Repeat("a", 1023)
	var all []vector
	for _, row := range []struct{ name, expect, claim, room, comment string }{
		{"other", differs, "other", "standup", "another room"},
		{"prefix", differs, "stand", "standup", "part of a name is no name"},
		{"wildcard", same, "*", "standup", "a star opens every room"},
		{"wildcard-part", differs, "stand*", "standup", "a star is a wildcard alone only"},
		{"dot-star", differs, ".*", "standup", "a pattern without context.room.regex is a name"},
		{"lua-pattern", differs, "%a+", "standup", "a pattern of Lua without context.room.regex is a name"},
		{"mixed-case", same, "RoomA", "rooma", "names are compared in lower case"},
		{"upper-case", same, "ROOMA", "rooma", "names are compared in lower case"},
		{"turkish-upper", same, "ISTANBUL", "istanbul", "no language has a say: I is i"},
		{"turkish-dotted", differs, "İstanbul", "istanbul", "U+0130 is i with a dot above in lower case"},
		{"turkish-dotless", differs, "ıstanbul", "istanbul", "U+0131 is a letter of its own"},
		{"sharp-s", differs, "strasse", "stra%c3%9fe", "lower case is not case folding: ß is not ss (RFC 8265 section 3.3)"},
		{"sharp-s-upper", same, "STRAẞE", "stra%c3%9fe", "U+1E9E is ß in lower case"},
		{"final-sigma", same, "ΟΔΟΣ", "%ce%bf%ce%b4%ce%bf%cf%82", "JavaScript's lower case makes a sigma final at the end of a word; this is what jitsi-meet sends"},
		{"final-sigma-page", same, "ΟΔΟΣ", "%CE%9F%CE%94%CE%9F%CE%A3", "the same, from a client that does not write lower case"},
		{"final-sigma-lower", same, "οδος", "%ce%bf%ce%b4%ce%bf%cf%82", "in lower case in the token as well"},
		{"final-sigma-two-words", same, "ΟΔΟΣ ΣΟΦΙΑΣ", "%ce%bf%ce%b4%ce%bf%cf%82%20%cf%83%ce%bf%cf%86%ce%b9%ce%b1%cf%82", "at the end of each word"},
		{"sigma-not-final", differs, "οδοσ", "%ce%bf%ce%b4%ce%bf%cf%82", "who writes a sigma that is not final means another room, in jitsi-meet, too"},
		{"nfd", same, "cafe\u0301", "caf\u00e9", "NFD in the token, NFC in the room"},
		{"nfc", same, "caf\u00e9", "cafe\u0301", "NFC in the token, NFD in the room"},
		{"full-width", same, "ＲＯＯＭＡ", "rooma", "full-width letters are mapped (RFC 8265 section 3.3.1)"},
		{"ligature", same, "ﬁnance", "finance", "jitsi-meet writes the room of this name by NFKC"},
		{"space-within", same, "My Room", "my%20room", "jitsi-meet encodes what a localpart cannot hold"},
		{"party", same, "🎉", "%f0%9f%8e%89", "so does it with an emoji"},
		{"zwj", differs, "room\u200da", "rooma", "a zero width joiner is not allowed here"},
		{"rtl-mark", differs, "rooma\u200f", "rooma", "a right-to-left mark is not allowed"},
		{"cyrillic", differs, "room\u0430", "rooma", "a Cyrillic letter is another letter"},
		{"cyrillic-room", differs, "rooma", "room\u0430", "a Cyrillic letter in the room"},
		{"emoji", differs, "rooma😀", "rooma", "an emoji is not allowed in a localpart"},
		{"trailing-dot", differs, "rooma.", "rooma", "a dot after it"},
		{"trailing-space", differs, "rooma ", "rooma", "a space after it"},
		{"leading-space", differs, " rooma", "rooma", "a space before it"},
		{"space", differs, " ", "rooma", "a space alone"},
		{"path", differs, "t/rooma", "rooma", "a path is no name"},
		{"full-jid", differs, "rooma@conference.meet.example.com", "rooma", "the claim is the name alone"},
		{"longest", same, long, long, "1023 bytes, the longest localpart (RFC 7622 section 3.3)"},
		{"too-long", differs, long + "a", long, "1024 bytes"},
		{"percent-first", same, "%72ooma", "rooma", "the percent-encoded and the plain form are one room"},
		{"percent-last", same, "room%61", "rooma", "the percent-encoded and the plain form are one room"},
		{"percent-twice", differs, "room%2561", "rooma", "decoded once and no more"},
		{"percent-twice-both", same, "room%2561", "room%2561", "the same name in both places"},
		{"percent-once-twice", differs, "room%61", "room%2561", "decoded once on both sides, these are rooma and room%61"},
		{"percent-both", same, "caf%c3%a9", "caf%c3%a9", "what jitsi-meet makes of café, in both places"},
		{"percent-room-only", same, "caf\u00e9", "caf%c3%a9", "encoded in the room, as jitsi-meet does it"},
		{"percent-claim-only", same, "caf%C3%A9", "caf\u00e9", "encoded in the token, in upper case"},
		{"percent-upper", same, "%43AF%C3%89", "caf%c3%a9", "decoded first, lower case after"},
		{"percent-nul", differs, "rooma%00", "rooma", "U+0000 is not allowed in a localpart"},
		{"percent-slash", differs, "rooma%2f", "rooma", "a slash is not allowed in a localpart"},
	} {
		all = append(all, vector{
			name: "room-" + row.name, expect: row.expect, room: row.room + service, comment: row.comment,
			token: hs256(t, headerOf("HS256"), claims(fmt.Sprintf("room=%q", row.claim))),
		})
	}
	good := hs256(t, headerOf("HS256"), claims())
	all = append(all,
		vector{name: "room-other-service", expect: "deny room-unknown", room: "standup@conference.other.example", token: good, comment: "a service that is not guarded"},
		vector{name: "room-service-alone", expect: "deny room-unknown", room: "conference.meet.example.com", token: good, comment: "no room but the service"},
	)
	all = append(all, payloadVectors(t, "", [][4]string{
		{"room-absent", "deny token-claims", claims("room"), "no room, and the vhost requires one"},
		{"room-regex-part", differs, claims(`room="tand"`, `context={"room":{"regex":true}}`), "a pattern has to match the whole name, if patterns are heeded at all"},
	})...)
	return append(all, payloadVectors(t, "open.example.com", [][4]string{
		{"open-room-absent", same, claims("room"), "no room, and the vhost requires none"},
		{"open-room-other", differs, claims(`room="other"`), "the vhost requires no room, but heeds one"},
		{"open-room-null", "deny token-claims", claims("room=null"), "null is not absent"},
	})...)
}

func tenantVectors(t testing.TB) []vector {
	const tenantRoom = "[acme]standup@conference.meet.example.com"
	tenant, room := "deny tenant-mismatch", "deny room-mismatch"
	var all []vector
	for _, row := range []struct{ name, expect, vhost, room, payload, comment string }{
		{"sub-wildcard", "allow owner", "", "", claims(`sub="*"`), "a star stands for every tenant"},
		{"sub-other", tenant, "", "", claims(`sub="other.example.com"`), "another domain"},
		{"sub-suffix", tenant, "", "", claims(`sub="meet.example.com.attacker.example"`), "begins like the domain"},
		{"sub-prefix", tenant, "", "", claims(`sub="attacker-meet.example.com"`), "ends like the domain"},
		{"sub-absent", tenant, "", "", claims("sub"), "no sub, with domain_verification on (assumed: that is no tenant, as nothing requires the claim by name)"},
		{"sub-tenant-plain-room", tenant, "", "", claims(`sub="acme"`), "a tenant's token for a room of no tenant"},
		{"tenant-room", "allow owner", "", tenantRoom, claims(`sub="acme"`, `context={"tenant":"acme"}`), "a room of the tenant"},
		{"tenant-room-wildcard", "allow owner", "", tenantRoom, claims(`sub="*"`), "a star stands for every tenant"},
		{"tenant-room-star", "allow owner", "", tenantRoom, claims(`sub="acme"`, `room="*"`), "every room of the tenant"},
		{"tenant-room-star-other", tenant, "", tenantRoom, claims(`sub="other"`, `room="*"`), "every room of another tenant"},
		{"tenant-room-other", tenant, "", tenantRoom, claims(`sub="other"`), "a room of another tenant"},
		{"tenant-room-domain", tenant, "", tenantRoom, claims(), "the domain is no tenant: its tokens are for rooms without one (as in Jitsi)"},
		{"tenant-room-other-room", room, "", tenantRoom, claims(`sub="acme"`, `room="other"`), "another room of the tenant"},
		{"tenant-claim-plain-room", room, "", "rooma@conference.meet.example.com", claims(`room="[t]rooma"`), "a room of a tenant is not the one without"},
		{"open-tenant-suffix", room, "open.example.com", tenantRoom, claims(), "without domain_verification, too, a name is no name of every tenant's room (Jitsi: it is)"},
		{"open-tenant-claim", "allow owner", "open.example.com", tenantRoom, claims(`room="[acme]standup"`), "without domain_verification the claim names the tenant's room in full"},
		{"open-sub-other", "allow owner", "open.example.com", "", claims(`sub="other.example.com"`), "sub does not count without domain_verification"},
		{"open-sub-absent", "allow owner", "open.example.com", "", claims("sub"), "sub does not count without domain_verification"},
		{"nowild-exact", "allow owner", "nowild.example.com", "", claims(), "no wildcard in it"},
		{"nowild-room", room, "nowild.example.com", "", claims(`room="*"`), "a wildcard room is refused (no_wildcard)"},
		{"nowild-sub", tenant, "nowild.example.com", "", claims(`sub="*"`), "a wildcard tenant is refused (no_wildcard)"},
		{"nowild-regex", room, "nowild.example.com", "", claims(`room="standu."`, `context={"room":{"regex":true}}`), "a pattern is refused (no_wildcard)"},
	} {
		all = append(all, vector{
			name: row.name, expect: row.expect, vhost: row.vhost, room: row.room, comment: row.comment,
			token: hs256(t, headerOf("HS256"), row.payload),
		})
	}
	return all
}

package token

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/lestrrat-go/jwx/v2/jwa"
	"github.com/lestrrat-go/jwx/v2/jws"
)

// MintOptions says how a token is signed.
type MintOptions struct {
	Algorithm jwa.SignatureAlgorithm
	// Key is []byte for HS*, *rsa.PrivateKey for RS* and PS*, *ecdsa.PrivateKey for ES*, ed25519.PrivateKey for EdDSA.
	Key any
	// KeyID becomes the header's "kid" if it is not empty.
	KeyID string
}

// Mint returns a signed token with these claims, in the form that Jitsi's own programs expect. It leaves out zero fields, and cuts
// times to whole seconds. The same claims always make the same payload. Mint fails if the key does not fit the algorithm, and if
// Parse and Claims would not return the same claims: a token too long, text that is not UTF-8, a time before 1970 or after 9999.
func Mint(c Claims, o MintOptions) (string, error) {
	signer, err := jws.NewSigner(o.Algorithm)
	if err != nil {
		return "", fmt.Errorf("mint: no signer for %q", string(o.Algorithm))
	}
	header, err := json.Marshal(headerJSON{o.Algorithm, o.KeyID, "JWT"})
	if err != nil {
		return "", fmt.Errorf("mint: header: %w", err)
	}
	payload, err := marshal(c)
	if err != nil {
		return "", fmt.Errorf("mint: %w", err)
	}
	signed := encodeBase64(header) + "." + encodeBase64(payload)
	signature, err := signer.Sign([]byte(signed), o.Key)
	if err != nil {
		return "", fmt.Errorf("mint: sign with %s: %w", o.Algorithm, err)
	}
	compact := signed + "." + encodeBase64(signature)

	t, err := Parse(compact)
	if err != nil {
		return "", fmt.Errorf("mint: %w", err)
	}
	minted, err := t.Claims(ClaimMap{})
	if err != nil {
		return "", fmt.Errorf("mint: %w", err)
	}
	// encoding/json silently replaces bytes that are not UTF-8. A second round has nothing to replace, and so shows it.
	if again, err := marshal(*minted); err != nil || !bytes.Equal(again, payload) || t.KeyID != o.KeyID {
		return "", errors.New("mint: claims that do not read back as they were written: text that is not UTF-8")
	}
	return compact, nil
}

// The token in JSON, with the members in this order.
type (
	headerJSON struct {
		Algorithm jwa.SignatureAlgorithm `json:"alg"`
		KeyID     string                 `json:"kid,omitempty"`
		Type      string                 `json:"typ"`
	}
	claimsJSON struct {
		Issuer    string      `json:"iss,omitempty"`
		Subject   string      `json:"sub,omitempty"`
		Audience  any         `json:"aud,omitempty"`
		Expires   *int64      `json:"exp,omitempty"`
		NotBefore *int64      `json:"nbf,omitempty"`
		IssuedAt  *int64      `json:"iat,omitempty"`
		ID        string      `json:"jti,omitempty"`
		Room      string      `json:"room,omitempty"`
		Moderator *bool       `json:"moderator,omitempty"`
		OneTime   bool        `json:"one_time,omitempty"`
		Context   contextJSON `json:"context,omitzero"`
	}
	contextJSON struct {
		User     userJSON        `json:"user,omitzero"`
		Group    string          `json:"group,omitempty"`
		Tenant   string          `json:"tenant,omitempty"`
		Room     roomJSON        `json:"room,omitzero"`
		Features map[string]bool `json:"features,omitzero"` // empty is not absent
	}
	userJSON struct {
		ID          string `json:"id,omitempty"`
		Name        string `json:"name,omitempty"`
		Email       string `json:"email,omitempty"`
		Avatar      string `json:"avatar,omitempty"`
		Affiliation string `json:"affiliation,omitempty"`
		Moderator   *bool  `json:"moderator,omitempty"`
		LobbyBypass *bool  `json:"lobby_bypass,omitempty"`

		HiddenFromRecorder bool `json:"hidden-from-recorder,omitempty"`
	}
	roomJSON struct {
		Regex bool  `json:"regex,omitempty"`
		Lobby *bool `json:"lobby,omitempty"`

		MaxOccupants int    `json:"max_occupants,omitempty"`
		Ends         *int64 `json:"ends,omitempty"`
	}
)

func marshal(c Claims) ([]byte, error) {
	return json.Marshal(claimsJSON{
		Issuer:    c.Issuer,
		Subject:   c.Subject,
		Audience:  audienceJSON(c.Audience),
		Expires:   numericDate(c.Expires),
		NotBefore: numericDate(c.NotBefore),
		IssuedAt:  numericDate(c.IssuedAt),
		ID:        c.ID,
		Room:      c.Room,
		Moderator: c.Moderator,
		OneTime:   c.OneTime,
		Context: contextJSON{
			User:     userJSON(c.User),
			Group:    c.Group,
			Tenant:   c.Tenant,
			Room:     roomJSON{c.RoomRegex, c.RoomLobby, c.MaxOccupants, numericDate(c.RoomEnds)},
			Features: c.Features,
		},
	})
}

// audienceJSON returns a single audience as a string, because Jitsi's Prosody plugin does not read arrays
// (resources/prosody-plugins/token/util.lib.lua compares aud as it stands).
func audienceJSON(audience []string) any {
	switch len(audience) {
	case 0:
		return nil
	case 1:
		return audience[0]
	}
	return audience
}

func numericDate(t time.Time) *int64 {
	if t.IsZero() {
		return nil
	}
	seconds := t.Unix()
	return &seconds
}

func encodeBase64(part []byte) string {
	return base64.RawURLEncoding.EncodeToString(part)
}

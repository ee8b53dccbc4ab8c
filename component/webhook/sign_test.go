package webhook_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/xmpp-usher/usher/component/webhook"
)

// verify is what a receiver does, by the specification (Verifying signatures). It uses no code of the package.
func verify(secret string, h http.Header, body []byte, now time.Time) error {
	id, timestamp := h.Get("webhook-id"), h.Get("webhook-timestamp")
	seconds, err := strconv.ParseInt(timestamp, 10, 64)
	if id == "" || strings.Contains(id, ".") || err != nil {
		return fmt.Errorf("the id is %q, and the timestamp %q", id, timestamp)
	}
	if math.Abs(now.Sub(time.Unix(seconds, 0)).Seconds()) > 300 {
		return fmt.Errorf("the timestamp is %v, and now is %v", time.Unix(seconds, 0), now)
	}
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_"))
	if err != nil {
		return err
	}
	mac := hmac.New(sha256.New, key)
	fmt.Fprintf(mac, "%s.%s.%s", id, timestamp, body)
	for _, each := range strings.Split(h.Get("webhook-signature"), " ") {
		version, encoded, _ := strings.Cut(each, ",")
		signature, err := base64.StdEncoding.DecodeString(encoded)
		if version == "v1" && err == nil && hmac.Equal(signature, mac.Sum(nil)) {
			return nil
		}
	}
	return errors.New("no signature is right")
}

// The vector of the specification's own libraries.
const (
	vectorSecret    = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	vectorID        = "msg_p5jXN8AQM9LWM0D4loKWxJek"
	vectorTimestamp = "1614265330"
	vectorBody      = `{"test": 2432232314}`
	vectorSignature = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
)

func TestSign(t *testing.T) {
	other := "whsec_" + base64.StdEncoding.EncodeToString([]byte("0123456789abcdef01234567"))
	secrets, err := webhook.ParseSecrets(vectorSecret + "\n" + other + "\n")
	if err != nil || len(secrets) != 2 {
		t.Fatal(len(secrets), err)
	}
	got := webhook.Sign(secrets, vectorID, vectorTimestamp, []byte(vectorBody))
	if first, second, two := strings.Cut(got, " "); first != vectorSignature || !two || !strings.HasPrefix(second, "v1,") {
		t.Errorf("the signature is %q", got)
	}
	at := time.Unix(1614265330, 0)
	h := http.Header{}
	h.Set("webhook-id", vectorID)
	h.Set("webhook-timestamp", vectorTimestamp)
	h.Set("webhook-signature", got)
	for _, secret := range []string{vectorSecret, other} {
		if err := verify(secret, h, []byte(vectorBody), at); err != nil {
			t.Error(err)
		}
	}
	if verify(vectorSecret, h, []byte(vectorBody+" "), at) == nil || verify("whsec_"+strings.Repeat("A", 32), h, []byte(vectorBody), at) == nil {
		t.Error("the test's own verifier takes anything")
	}
}

func TestParseSecrets(t *testing.T) {
	of := func(n int) string { return "whsec_" + base64.StdEncoding.EncodeToString(make([]byte, n)) }
	for _, tt := range []struct {
		text string
		n    int
		says string
	}{
		{of(24), 1, ""},
		{of(64), 1, ""},
		{" " + of(24) + "\r\n\t" + of(32) + " ", 2, ""},
		{"", 0, "no secret"},
		{" \n", 0, "no secret"},
		{of(23), 0, "23 bytes"},
		{of(65), 0, "65 bytes"},
		{"whsec_", 0, "0 bytes"},
		{vectorSecret[len("whsec_"):], 0, "the 1. secret does not begin with whsec_"},
		{"whsk_" + vectorSecret[len("whsec_"):], 0, "whsec_"},
		{of(24) + " WHSEC_" + of(24)[6:], 0, "the 2. secret does not begin"},
		{"whsec_" + strings.Repeat("-", 32), 0, "base64"},
		{strings.TrimRight(of(25), "="), 0, "base64"},
		{of(25)[:len(of(25))-3] + "B==", 0, "base64"}, // bits behind the end
	} {
		secrets, err := webhook.ParseSecrets(tt.text)
		if len(secrets) != tt.n || (err == nil) != (tt.says == "") || err != nil && !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%q: %d secrets, %v", tt.text, len(secrets), err)
		}
	}
}

// TestSecretIsNotPrinted: whatever somebody prints, there is no secret in it.
func TestSecretIsNotPrinted(t *testing.T) {
	secrets, err := webhook.ParseSecrets(vectorSecret)
	if err != nil {
		t.Fatal(err)
	}
	h := webhook.Hook{Name: "h", Secrets: secrets}
	for _, format := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d"} {
		text := fmt.Sprintf(format, h)
		key, _ := base64.StdEncoding.DecodeString(vectorSecret[6:])
		for _, form := range []string{vectorSecret[6:], string(key), fmt.Sprintf("%x", key), fmt.Sprint(key)[1:20]} {
			if strings.Contains(text, form) {
				t.Errorf("%s prints %q", format, text)
			}
		}
	}
}

// FuzzParseSecrets: what is taken signs as the specification says; what is not is not quoted.
func FuzzParseSecrets(f *testing.F) {
	for _, seed := range []string{
		vectorSecret, vectorSecret + "\n" + vectorSecret, "whsec_", "whsec_AAAA", "whsk_x", "", "\xff whsec_\x00",
		"whsec_" + strings.Repeat("A", 88), strings.TrimPrefix(vectorSecret, "whsec_"),
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		secrets, err := webhook.ParseSecrets(text)
		if err != nil {
			for _, word := range strings.Fields(text) {
				if len(word) > 12 && strings.Contains(err.Error(), word) {
					t.Errorf("%q: %v", text, err)
				}
			}
			return
		}
		words := strings.Fields(text)
		if len(words) != len(secrets) || len(words) == 0 {
			t.Fatalf("%q: %d secrets", text, len(secrets))
		}
		h := http.Header{}
		h.Set("webhook-id", "msg_1")
		h.Set("webhook-timestamp", "1614265330")
		h.Set("webhook-signature", webhook.Sign(secrets, "msg_1", "1614265330", []byte("{}")))
		for _, word := range words {
			if err := verify(word, h, []byte("{}"), time.Unix(1614265330, 0)); err != nil {
				t.Errorf("%q: %v", word, err)
			}
		}
	})
}

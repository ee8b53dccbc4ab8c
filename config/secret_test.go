package config_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/xmpp-usher/usher/config"
)

// TestSecretsNotPrinted formats a Config in every way that logs and reports do.
func TestSecretsNotPrinted(t *testing.T) {
	c, err := config.Load(nil, least)
	if err != nil {
		t.Fatal(err)
	}
	wrapped := struct {
		hidden config.Secret
		config *config.Config
	}{c.XMPP.Secret, c}
	var outputs []string
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d", "%T"} {
		outputs = append(outputs, fmt.Sprintf(verb, c), fmt.Sprintf(verb, *c), fmt.Sprintf(verb, wrapped),
			fmt.Sprintf(verb, c.XMPP.Secret), fmt.Sprintf(verb, &c.XMPP.Secret), fmt.Sprintf(verb, c.VHosts[0].Issuers[0]))
	}
	asJSON, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	asYAML, err := yaml.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	var logged strings.Builder
	slog.New(slog.NewTextHandler(&logged, nil)).Info("configuration", "config", c, "secret", c.XMPP.Secret)
	slog.New(slog.NewJSONHandler(&logged, nil)).Info("configuration", "config", c, "secret", c.XMPP.Secret)
	outputs = append(outputs, string(asJSON), string(asYAML), logged.String(), fmt.Sprint(c.XMPP.Secret))
	for _, output := range outputs {
		for _, secret := range []string{secretA, secretB, fmt.Sprintf("%x", secretA), fmt.Sprintf("%x", secretB)} {
			if strings.Contains(output, secret[4:12]) {
				t.Errorf("a secret is in %s", output)
			}
		}
	}
	if !strings.Contains(string(asJSON), `"Secret":"******"`) || fmt.Sprint(c.XMPP.Secret) != "******" {
		t.Errorf("a secret comes out otherwise than masked: %s", asJSON)
	}
}

// TestSecretsNotInProblems checks every place where somebody can write a secret by mistake.
func TestSecretsNotInProblems(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, file := range []string{
		"xmpp: {secret: [" + secretA + "]}",
		"xmpp: {secret: {" + secretA + ": x}}",
		"xmpp: {secret: *" + secretA + "}",
		"xmpp: {secret: &" + secretA + " x}",
		"xmpp: {secret: !" + secretA + " x}",
		"xmpp: {secret: \"" + secretA + "\n",
		"xmpp: {secret: '" + secretA + "'x'}",
		"xmpp: {secret: \"\\q" + secretA + "\"}",
		"xmpp: {secret: @" + secretA + "}",
		"xmpp: {secret: %" + secretA + "}",
		"xmpp:\n  secret: " + secretA + ": x\n",
		"xmpp:\n  secret: |" + secretA + "\n",
		"xmpp:\n  secret: !!binary " + secretA + "\n",
		"xmpp: {secert: " + secretA + "}",
		"xmpp: " + secretA,
		secretA,
		"vhosts: {a.example.com: {app_secrets: " + secretA + "}}",
		"vhosts: {a.example.com: {kind: token, app_id: a, app_secret: " + secretA + ", algorithms: [HS512]}}",
		"xmpp: {secret: -----BEGIN " + secretA + "}",
	} {
		write(t, "usher.yaml", []byte(file))
		_, err := config.Load([]string{"usher.yaml"}, nil)
		if err == nil {
			t.Errorf("%s passed", file)
		} else if strings.Contains(err.Error(), secretA[:8]) {
			t.Errorf("%s: the secret is in %s", file, err)
		}
	}
	_, err := config.Load(nil, slices.Concat(least, []string{
		"USHER_XMPP_SECERT=" + secretA, "USHER_VHOSTS_MEET_EXAMPLE_COM_ALGORITHMS=HS512",
	}))
	if err == nil || strings.Contains(err.Error(), secretA[:8]) || strings.Contains(err.Error(), secretB[:8]) {
		t.Error(err)
	}
}

func TestSecret(t *testing.T) {
	if got := (config.Secret{}).Reveal(); got != "" {
		t.Errorf("the zero Secret reveals %q", got)
	}
	if got := config.NewSecret(secretA).Reveal(); got != secretA {
		t.Errorf("a Secret reveals %q", got)
	}
	if s := config.NewSecret(secretA); s.String() != "******" || s.GoString() != "******" {
		t.Errorf("a Secret prints as %s, %s", s.String(), s.GoString())
	}
}

// TestCredentials checks that a credential of systemd counts before the file of its name, unless it is empty.
func TestCredentials(t *testing.T) {
	credentials := t.TempDir()
	write(t, filepath.Join(credentials, "component.secret"), []byte(secretB+"\n"))
	write(t, filepath.Join(credentials, "app.secret"), nil)
	inFolder(t, "usher.yaml", `xmpp: {domain: focus.example.com, secret_file: component.secret}
rooms: {services: [conference.example.com]}
vhosts: {example.com: {kind: token, app_id: a, app_secret_file: app.secret}}
`)
	write(t, "component.secret", []byte(secretA))
	write(t, "app.secret", []byte(secretA))
	for _, tt := range []struct {
		environ   []string
		component string
	}{
		{nil, secretA},
		{[]string{"CREDENTIALS_DIRECTORY=" + credentials}, secretB},
		{[]string{"CREDENTIALS_DIRECTORY=" + filepath.Join(credentials, "none")}, secretA},
		// A name with a folder is no credential's.
		{[]string{"CREDENTIALS_DIRECTORY=" + credentials, "USHER_XMPP_SECRET_FILE=./component.secret"}, secretA},
	} {
		c, err := config.Load([]string{"usher.yaml"}, tt.environ)
		if err != nil {
			t.Fatal(err)
		}
		if got := c.XMPP.Secret.Reveal(); got != tt.component {
			t.Errorf("%v: the component's secret is another one", tt.environ)
		}
		if c.VHosts[0].Issuers[0].AppSecrets[0].Reveal() != secretA {
			t.Errorf("%v: the issuer's secret is another one", tt.environ)
		}
	}
}

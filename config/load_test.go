package config_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/xmpp-usher/usher/config"
)

// TestFiles loads every file of testdata/config. Its last lines say which problems and warnings it has, in order.
func TestFiles(t *testing.T) {
	source, err := filepath.Abs(filepath.Join("..", "testdata", "config"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range stage(t) {
		if !strings.HasSuffix(name, ".yaml") {
			continue
		}
		t.Run(name, func(t *testing.T) {
			content, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			var want, input []string
			for line := range strings.Lines(string(content)) {
				if strings.HasPrefix(line, "# want: ") || strings.HasPrefix(line, "# warn: ") {
					want = append(want, strings.TrimSuffix(line[2:], "\n"))
				} else {
					input = append(input, line)
				}
			}
			c, err := config.Load(named(name), nil)
			problems, warnings := texts(t, c, err)
			var got []string
			for _, problem := range problems {
				got = append(got, "want: "+problem)
			}
			for _, warning := range warnings {
				got = append(got, "warn: "+warning)
			}
			if good := strings.HasPrefix(name, "good"); good != (len(problems) == 0) {
				t.Errorf("%d problems, against its name: %v", len(problems), problems)
			}
			if slices.Equal(got, want) {
				return
			}
			if *config.Update {
				for _, line := range got {
					input = append(input, "# "+line+"\n")
				}
				if err := os.WriteFile(filepath.Join(source, name), []byte(strings.Join(input, "")), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		})
	}
}

// TestExample checks that the example has no problem, except that its secrets have yet to be made.
func TestExample(t *testing.T) {
	t.Chdir(t.TempDir())
	write(t, "usher.yaml", config.Example)
	_, err := config.Load([]string{"usher.yaml"}, nil)
	problems, _ := texts(t, nil, err)
	secrets := []string{"component.secret", "app.secret", "portal.secret"}
	if len(problems) != len(secrets) {
		t.Errorf("problems of the example:\n%s", strings.Join(problems, "\n"))
	}
	for i, secret := range secrets {
		if !strings.Contains(problems[i], secret) || !strings.Contains(problems[i], "does not exist") {
			t.Errorf("got %s, want that %s does not exist", problems[i], secret)
		}
		write(t, secret, []byte(strings.Repeat("0123456789abcdef", 4)+"\n"))
	}
	c, err := config.Load([]string{"usher.yaml"}, nil)
	if err != nil || len(c.Warnings) > 0 {
		t.Fatal(err, c.Warnings)
	}

	// A key that is commented out shows its default: without the #, nothing changes.
	write(t, "whole.yaml", uncommented(config.Example))
	whole, err := config.Load([]string{"whole.yaml"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := reveal(whole), reveal(c); got != want {
		t.Errorf("with the defaults written out\n%s\nwant\n%s", got, want)
	}
}

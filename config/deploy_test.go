package config_test

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/xmpp-usher/usher/config"
)

// TestDeployDocker checks the files for docker-jitsi-meet: the service fits into its docker-compose.yml, it is told all that
// usher needs, and the configuration is complete beside a .env file.
func TestDeployDocker(t *testing.T) {
	read := func(name string) []byte {
		content, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		return content
	}
	fragment, image, own := read("deploy/docker/usher.yml"), read("deploy/docker/Dockerfile"), read("deploy/docker/usher.yaml")
	readme := string(read("../README.md"))
	folder, err := filepath.Abs("../testdata/vhosts/docker")
	if err != nil {
		t.Fatal(err)
	}
	made := os.DirFS(folder)
	env := append(read("../testdata/vhosts/docker/.env"), "GLOBAL_CONFIG='"+config.DockerGlobalConfig+"'\n"...)

	var compose struct {
		Services map[string]struct {
			Build, User, Restart string
			EnvFile              string         `yaml:"env_file"`
			ReadOnly             bool           `yaml:"read_only"`
			CapDrop              []string       `yaml:"cap_drop"`
			SecurityOpt          []string       `yaml:"security_opt"`
			DependsOn            []string       `yaml:"depends_on"`
			Networks             map[string]any `yaml:"networks"`
			Volumes              []string
		}
	}
	decoder := yaml.NewDecoder(strings.NewReader(string(fragment)))
	decoder.KnownFields(true)
	if err := decoder.Decode(&compose); err != nil {
		t.Fatal(err)
	}
	s, ok := compose.Services["usher"]
	if !ok || len(compose.Services) != 1 {
		t.Fatalf("services %v", slices.Collect(maps.Keys(compose.Services)))
	}
	if _, ok := s.Networks["meet.jitsi"]; !ok || len(s.Networks) != 1 || !slices.Equal(s.DependsOn, []string{"prosody"}) {
		t.Errorf("networks %v, depends on %v", s.Networks, s.DependsOn) // those of docker-compose.yml
	}
	if s.EnvFile != ".env" || s.User != "1000:1000" || !s.ReadOnly {
		t.Errorf("%+v", s)
	}
	for _, v := range regexp.MustCompile(`\$\{?([A-Za-z_]+)`).FindAllStringSubmatch(string(fragment), -1) {
		if !slices.Contains([]string{"RESTART_POLICY"}, v[1]) {
			t.Errorf("%s is no variable of docker-compose.yml", v[1])
		}
	}

	// The container's folder is that of the mounted one, and what is written has a mount of its own.
	for _, line := range []string{"COPY usher /usher", "WORKDIR /etc/usher", `ENTRYPOINT ["/usher"]`, `CMD ["serve", "-c", "usher.yaml"]`} {
		if !strings.Contains(string(image), line+"\n") {
			t.Errorf("the image lacks %s", line)
		}
	}
	if s.Build != "./usher" || !slices.Contains(s.Volumes, "./usher:/etc/usher:ro,Z") || !slices.Contains(s.Volumes, "./usher/data:/etc/usher/data:Z") {
		t.Errorf("build %s, volumes %v", s.Build, s.Volumes)
	}

	// On the host .env is named; in the container it is the environment.
	inFolder(t, ".env", string(env))
	if err := os.MkdirAll("usher/data", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS("usher/prosody", made); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join("usher", "usher.yaml"), own)
	write(t, filepath.Join("usher", "component.secret"), []byte(secretA+"\n"))
	onHost, err := config.Load([]string{".env", "usher/usher.yaml"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	var environ []string
	for line := range strings.Lines(string(env)) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok && !strings.HasPrefix(name, "#") {
			environ = append(environ, name+"="+strings.Trim(value, "'"))
		}
	}
	inContainer, err := config.Load([]string{"usher/usher.yaml"}, environ)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []*config.Config{onHost, inContainer} {
		if c.XMPP.Server != "xmpp.meet.jitsi:5347" || c.XMPP.Secret.Reveal() != secretA || c.Rooms.Enforcement != config.Module ||
			c.Store.Path != "usher/data/usher.db" || len(c.VHosts) != 3 {
			t.Errorf("%s", c.YAML())
		}
		for _, n := range c.Notes {
			if strings.Contains(n.String(), "GLOBAL_CONFIG") {
				t.Errorf("usher's own line is not known: %s", n)
			}
		}
	}

	for _, line := range []string{"GLOBAL_CONFIG='" + config.DockerGlobalConfig + "'", "COMPOSE_FILE=docker-compose.yml:usher.yml",
		"ENABLE_AUTO_OWNER=0", "JICOFO_ENABLE_AUTH=0"} {
		if !strings.Contains(readme, "\n"+line+"\n") {
			t.Errorf("the README lacks %s", line)
		}
	}
	if lines := linesOf(t, onHost); !strings.Contains(lines, "GLOBAL_CONFIG='"+config.DockerGlobalConfig+"'\n") {
		t.Errorf("the lines do not say how they are read:\n%s", lines)
	}
	if strings.ContainsAny(config.DockerGlobalConfig, "'\\$\n") {
		t.Error("GLOBAL_CONFIG's line cannot stand in single quotes, or is split or expanded")
	}
}

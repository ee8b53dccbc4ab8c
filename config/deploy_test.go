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

// dockerLines is the line of .env that has Prosody read usher's lines.
const dockerLines = "GLOBAL_CONFIG='" + config.DockerGlobalConfig + "'\n"

// read returns the content of a file of the repository.
func read(t *testing.T, name string) string {
	t.Helper()
	content, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

// TestDeployDocker checks that the service for docker-jitsi-meet fits into its docker-compose.yml.
func TestDeployDocker(t *testing.T) {
	fragment := read(t, "deploy/docker-compose.usher.yml")
	var compose struct {
		Services map[string]struct {
			Build, User, Restart string
			EnvFile              string `yaml:"env_file"`
			Environment          map[string]string
			ReadOnly             bool           `yaml:"read_only"`
			CapDrop              []string       `yaml:"cap_drop"`
			SecurityOpt          []string       `yaml:"security_opt"`
			DependsOn            []string       `yaml:"depends_on"`
			Networks             map[string]any `yaml:"networks"`
			Volumes              []string
		}
	}
	decoder := yaml.NewDecoder(strings.NewReader(fragment))
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
	for _, v := range regexp.MustCompile(`\$\{?([A-Za-z_]+)`).FindAllStringSubmatch(fragment, -1) {
		if !slices.Contains([]string{"RESTART_POLICY"}, v[1]) {
			t.Errorf("%s is no variable of docker-compose.yml", v[1])
		}
	}
	// The container's folder is the mounted one, and usher writes to a mount of its own.
	for _, line := range []string{"COPY usher /usher", "WORKDIR /etc/usher", `ENTRYPOINT ["/usher"]`, `CMD ["serve", "-c", "usher.yaml"]`} {
		if !strings.Contains(read(t, "deploy/docker/Dockerfile"), line+"\n") {
			t.Errorf("the image lacks %s", line)
		}
	}
	if s.Environment["STATE_DIRECTORY"] != "/etc/usher/data" { // below which the portal's keys are, and the root is read-only
		t.Errorf("environment %v", s.Environment)
	}
	if s.Build != "./usher" || !slices.Contains(s.Volumes, "./usher:/etc/usher:ro,Z") || !slices.Contains(s.Volumes, "./usher/data:/etc/usher/data:Z") {
		t.Errorf("build %s, volumes %v", s.Build, s.Volumes)
	}
}

// TestDeployDockerConfig checks that the configuration is complete beside a .env file: on the host the file is named, and in the
// container it is the environment.
func TestDeployDockerConfig(t *testing.T) {
	own, env := read(t, "deploy/docker/usher.yaml"), read(t, "../testdata/vhosts/docker/.env")+dockerLines
	folder, err := filepath.Abs("../testdata/vhosts/docker")
	if err != nil {
		t.Fatal(err)
	}
	made := os.DirFS(folder)
	inFolder(t, ".env", env)
	if err := os.MkdirAll("usher/data", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS("usher/prosody", made); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join("usher", "usher.yaml"), []byte(own))
	write(t, filepath.Join("usher", "component.secret"), []byte(secretA+"\n"))
	var environ []string
	for line := range strings.Lines(env) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok && !strings.HasPrefix(name, "#") {
			environ = append(environ, name+"="+strings.Trim(value, "'"))
		}
	}
	onHost := load(t, ".env", "usher/usher.yaml")
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
	if lines := linesOf(t, onHost); !strings.Contains(lines, dockerLines) {
		t.Errorf("the lines do not say how they are read:\n%s", lines)
	}
}

// TestDeployDockerReadme checks that the document has the lines of .env, and that .env can have usher's line.
func TestDeployDockerReadme(t *testing.T) {
	readme := read(t, "deploy/README.md")
	for _, line := range []string{dockerLines, "COMPOSE_FILE=docker-compose.yml:usher.yml\n", "ENABLE_AUTO_OWNER=0\n", "JICOFO_ENABLE_AUTH=0\n"} {
		if !strings.Contains(readme, "\n"+line) {
			t.Errorf("deploy/README.md lacks %s", line)
		}
	}
	if strings.ContainsAny(config.DockerGlobalConfig, "'\\$\n") {
		t.Error("GLOBAL_CONFIG's line cannot stand in single quotes, or is split or expanded")
	}
}

package config

import "flag"

// Update has the tests write what they compare with: the want and warn lines of testdata/config, and README.md.
var Update = flag.Bool("update", false, "write what the tests compare with")

// DockerElsewhere and DockerPrefixes are as in docker.go.
var (
	DockerElsewhere = dockerElsewhere
	DockerPrefixes  = dockerPrefixes
)

// ReadJavaScript is readJavaScript. It returns the lines of the values.
func ReadJavaScript(script string, keys ...string) (map[string]int, error) {
	values, err := readJavaScript(script, keys...)
	lines := map[string]int{}
	for key, v := range values {
		lines[key] = v.line
	}
	return lines, err
}

package config

// Keys returns the name of every key.
func Keys() []string { return table.names() }

func (s *shape) names() []string {
	var names []string
	for name, key := range s.keys {
		names = append(names, name)
		names = append(names, key.names()...)
	}
	if s.each != nil {
		names = append(names, s.each.names()...)
	}
	return names
}

// DockerElsewhere and DockerPrefixes are as in docker.go.
var (
	DockerElsewhere = dockerElsewhere
	DockerPrefixes  = dockerPrefixes
)

// ReadJavaScript is readJavaScript, and tells in which lines the values are.
func ReadJavaScript(script string, keys ...string) (map[string]int, error) {
	values, err := readJavaScript(script, keys...)
	lines := map[string]int{}
	for key, v := range values {
		lines[key] = v.line
	}
	return lines, err
}

package config

import (
	"fmt"
	"regexp"
	"strings"
)

// assignment is a variable of a .env file.
type assignment struct {
	value string
	line  int
}

// mistake says what is wrong with a line of a .env file. The text contains nothing of the line, which may be a secret.
type mistake struct {
	line int
	text string
}

var (
	envName = regexp.MustCompile(`^(?:export\s+)?([A-Za-z_][A-Za-z0-9_.-]*)\s*=[ \t]*`)
	// reference is a variable in a value: $NAME, ${NAME}, or with a default ${NAME-default} and ${NAME:-default}.
	reference = regexp.MustCompile(`\$(?:\$|([A-Za-z_][A-Za-z0-9_]*)|\{([A-Za-z_][A-Za-z0-9_]*)(?:(:?-)([^{}]*))?\}|\{)`)
)

// parseDotenv reads a .env file as Docker Compose does (docs.docker.com, "Syntax for environment files"): NAME=value, and comments
// behind #. Values in single quotes stand as they are. Values in double quotes may have escapes. Values that are not in single
// quotes may refer to variables of lines before. The last line of a name counts.
//
// Without expanded, a $ is a $, and of the escapes only those of new lines count, as for the package dotenv of Node.js.
func parseDotenv(content string, expanded bool) (variables map[string]assignment, mistakes []mistake) {
	variables = map[string]assignment{}
	content = strings.TrimPrefix(content, "\ufeff")
	size := 0
	for line := 1; content != ""; {
		here := line
		text, rest, _ := strings.Cut(content, "\n")
		trimmed := strings.TrimSpace(text)
		if trimmed == "" || trimmed[0] == '#' {
			content, line = rest, line+1
			continue
		}
		value := strings.TrimLeft(content, " \t\r")
		name := envName.FindStringSubmatch(value)
		if name == nil {
			mistakes = append(mistakes, mistake{here, "is no variable: write NAME=value"})
			content, line = rest, line+1
			continue
		}
		value = value[len(name[0]):]
		known := variables
		if !expanded {
			known = nil
		}
		read, after, fault := readValue(value, known)
		line += strings.Count(content[:len(content)-len(after)], "\n")
		content = after
		if fault != "" {
			mistakes = append(mistakes, mistake{here, fault})
			continue
		}
		if size += len(read); size > maxValues {
			return variables, append(mistakes, mistake{here, "is too much: the values up to here are too long once the variables in them are replaced"})
		}
		variables[name[1]] = assignment{read, here}
	}
	return variables, mistakes
}

// readValue reads the value that text begins with, and returns what follows its line. Without known variables, nothing is replaced.
func readValue(text string, known map[string]assignment) (value, after, fault string) {
	quote := byte(0)
	if text != "" && (text[0] == '"' || text[0] == '\'') {
		quote = text[0]
	}
	if quote == 0 {
		value, after, _ = strings.Cut(text, "\n")
		if comment := strings.Index(" "+value, " #"); comment >= 0 {
			value = value[:max(comment-1, 0)]
		}
		if comment := strings.Index(value, "\t#"); comment >= 0 {
			value = value[:comment]
		}
		value, fault = expand(strings.TrimSpace(value), known)
		return value, after, fault
	}
	end := 1
	for end < len(text) && text[end] != quote {
		if text[end] == '\\' && quote == '"' {
			end++
		}
		end++
	}
	if end >= len(text) {
		_, after, _ = strings.Cut(text, "\n")
		return "", after, "has a quote that is not closed"
	}
	value, text = text[1:end], text[end+1:]
	behind, after, _ := strings.Cut(text, "\n")
	if behind = strings.TrimSpace(behind); behind != "" && behind[0] != '#' {
		return "", after, "has something behind its closing quote: take it out, or put it into the quotes"
	}
	if quote == '\'' {
		return value, after, ""
	}
	if known == nil {
		return newLines.Replace(value), after, ""
	}
	// Escaped dollars must not be taken for references, so both are looked at together.
	var b strings.Builder
	for i, part := range strings.Split(value, `\\`) {
		if i > 0 {
			b.WriteByte('\\')
		}
		part = escapes.Replace(part)
		part, fault = expand(part, known)
		if fault != "" {
			return "", after, fault
		}
		b.WriteString(part)
	}
	return b.String(), after, ""
}

var newLines = strings.NewReplacer(`\n`, "\n", `\r`, "\r")

var escapes = strings.NewReplacer(`\n`, "\n", `\r`, "\r", `\t`, "\t", `\"`, `"`, `\$`, `$$`)

// expand replaces the references in a value. A variable that is not set becomes nothing.
func expand(value string, known map[string]assignment) (_, fault string) {
	const tooLong = "is too long once the variables in it are replaced"
	if known == nil {
		return value, ""
	}
	size := len(value)
	value = reference.ReplaceAllStringFunc(value, func(match string) string {
		replaced, odd := refer(match, known)
		if fault == "" {
			fault = odd
		}
		if size += len(replaced); size > maxValue+len(value) { // before it is put together
			fault = tooLong
		}
		if fault != "" {
			return ""
		}
		return replaced
	})
	if fault == "" && len(value) > maxValue {
		fault = tooLong
	}
	if fault != "" {
		return "", fault
	}
	return value, ""
}

// refer returns the value of a reference.
func refer(match string, known map[string]assignment) (_, fault string) {
	parts := reference.FindStringSubmatch(match)
	switch {
	case match == "$$":
		return "$", ""
	case match == "${":
		return "", "has a ${ that is none of ${NAME}, ${NAME-default} and ${NAME:-default}: " +
			"put a value with a plain $ in single quotes"
	case parts[1] != "":
		return known[parts[1]].value, ""
	}
	found, set := known[parts[2]]
	if parts[3] == "-" && !set || parts[3] == ":-" && found.value == "" {
		return parts[4], ""
	}
	return found.value, ""
}

// maxValue is the limit of a value of a .env file in bytes, because each line could double the lines before. maxValues is the limit
// of all of them together.
const maxValue, maxValues = 64 << 10, 4 << 20

// Dotenv returns the variables of a .env file by their names, read as Docker Compose does. The error names the first line that is wrong,
// and has nothing of the file in it.
func Dotenv(content string) (map[string]string, error) {
	read, mistakes := parseDotenv(content, true)
	if len(mistakes) > 0 {
		return nil, fmt.Errorf("%d: %s", mistakes[0].line, mistakes[0].text)
	}
	variables := make(map[string]string, len(read))
	for name, v := range read {
		variables[name] = v.value
	}
	return variables, nil
}

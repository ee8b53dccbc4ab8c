package api

import (
	"bytes"
	"flag"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write testdata/openapi.json")

// The document is checked in, so that a change of the API shows in review. "go test ./component/api -run OpenAPI -update" writes it.
func TestOpenAPI(t *testing.T) {
	const file = "../../testdata/openapi.json"
	got, err := Document()
	if err != nil {
		t.Fatal(err)
	}
	got = append(got, '\n')
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("testdata/openapi.json is not what the API is (%v): look at the change, and write it with -update", err)
	}
	if !strings.Contains(string(got), `"openapi": "3.1.0"`) {
		t.Error("not OpenAPI 3.1")
	}
}

package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"go.uber.org/zap"

	"github.com/xmpp-usher/usher/auth/store"
	"github.com/xmpp-usher/usher/component"
	"github.com/xmpp-usher/usher/pkg/printable"
)

// Faults of a question.
var (
	errNoSuchPath = errors.New("this usher has no such path, or not with this method")
	errTooLong    = errors.New("the body is too long")
)

// errToken is the answer to a token in the place of one of its claims. Tokens are to be written nowhere.
var errToken = errors.New("this looks like a token, or a link with one, but a claim of it is asked for: usher token explain shows them")

// textUnable is for callers of the network: the error may name what they need not know, such as the store's address.
const textUnable = "usher could not do this: its server or store did not answer; usher's log says more. Ask again later"

// headerJSON is what goes with a body.
const headerJSON = "Content-Type: application/json"

// problem returns an error as RFC 9457 has it.
func problem(status int, format string, args ...any) error {
	return huma.NewError(status, printable.Text(fmt.Sprintf(format, args...)))
}

// fault returns the answer to an error.
func (s *server) fault(err error) error {
	var answered huma.StatusError
	var asked RequestError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &answered):
		return err
	case errors.As(err, &asked):
		return problem(http.StatusUnprocessableEntity, "%v", err)
	case errors.Is(err, errToken), errors.Is(err, store.ErrRevocation):
		return problem(http.StatusBadRequest, "%v", err)
	case errors.Is(err, store.ErrNoRevocation), errors.Is(err, component.ErrRoom), errors.Is(err, component.ErrNoRoom),
		errors.Is(err, component.ErrNoOccupant):
		return problem(http.StatusNotFound, "%v", err)
	case errors.Is(err, store.ErrStandby):
		return problem(http.StatusServiceUnavailable, "%v", errStandsBy)
	case s.local, errors.Is(err, errStandsBy):
		return problem(http.StatusServiceUnavailable, "%v", err)
	}
	s.Log.Warn("a call of the API could not be answered", zap.Error(err))
	return problem(http.StatusServiceUnavailable, textUnable)
}

// clean makes huma's errors say in their detail what is wrong, and takes out what the client has sent: it may be a token, and errors
// end up in logs.
func clean(_ huma.Context, _ string, v any) (any, error) {
	p, isProblem := v.(*huma.ErrorModel)
	if !isProblem {
		return v, nil
	}
	c := *p
	c.Errors = nil
	var said []string
	for _, e := range p.Errors {
		if e == nil {
			continue
		}
		one := &huma.ErrorDetail{Message: harmless(e.Message), Location: harmless(e.Location)}
		if p.Status == http.StatusUnsupportedMediaType {
			one.Message += "; send the body with the header " + headerJSON // curl -d sends another one by itself
		}
		c.Errors = append(c.Errors, one)
		if text := one.Message; one.Location == "" || one.Location == "body" && strings.HasPrefix(text, textBody) {
			said = append(said, text)
		} else {
			said = append(said, one.Location+": "+text)
		}
	}
	switch {
	case c.Status == http.StatusRequestEntityTooLarge:
		c.Detail = errTooLong.Error()
	case len(said) > 0:
		c.Detail = strings.Join(said[:min(len(said), mostFaults)], "; ")
	}
	return &c, nil
}

// mostFaults is how many faults the detail of an error names.
const mostFaults = 5

// harmless returns a text of an error without what may be a token, and of a length that can be read.
func harmless(text string) string {
	if LooksLikeToken(text) {
		return "(not repeated, because it may be a token)"
	}
	return printable.Cut(text, 300, "…")
}

// writeProblem answers a request that no operation has seen.
func writeProblem(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(&huma.ErrorModel{Title: http.StatusText(status), Status: status, Detail: text}) // fails if the client has gone
}

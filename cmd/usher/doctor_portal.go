package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"syscall"
	"time"

	"github.com/xmpp-usher/usher/auth/portal"
	"github.com/xmpp-usher/usher/component/doctor"
	"github.com/xmpp-usher/usher/config"
)

// portalAnswers is how long the portal may take to answer at its public address.
const portalAnswers = 5 * time.Second

// leadThere is what to do where the public address leads elsewhere.
const leadThere = "give its pages to usher: with nginx by config/deploy/portal.nginx.conf (README, \"Hosts log in\"), then reload the proxy"

// examinePortal reports whether the portal answers at its public address. An usher that does not run cannot answer, and then what answers in
// its place says whether the way leads there.
func examinePortal(ctx context.Context, c *config.Config, runs bool, report func(doctor.Check)) {
	if c.Portal.Listen == "" {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, portalAnswers)
	defer cancel()
	check := doctor.Check{Code: "portal", Of: c.Portal.PublicURL}
	r, err := askPortal(ctx, c.Portal.PublicURL+"/login")
	if err != nil {
		check.Status, check.Says, check.Mend = unreachedPortal(c, runs, err)
	} else {
		check.Status, check.Says, check.Mend = answeredPortal(c, runs, r)
	}
	report(check)
}

// askPortal makes one request, and follows no redirect. The answer has no body.
func askPortal(ctx context.Context, address string) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.DisableKeepAlives = true
	client := http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	r, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	return r, r.Body.Close()
}

// answeredPortal judges an answer.
func answeredPortal(c *config.Config, runs bool, r *http.Response) (status doctor.Status, says, mend string) {
	ours := r.Header.Get(portal.Header) != ""
	switch {
	case ours && r.StatusCode == http.StatusMisdirectedRequest:
		return doctor.Fail, "the portal is reached by another name than its own, so it refuses everybody",
			"have the proxy pass on the header Host, with nginx: proxy_set_header Host $http_host;"
	case ours:
		return doctor.OK, "the portal answers", ""
	case r.StatusCode == http.StatusBadGateway || r.StatusCode == http.StatusServiceUnavailable || r.StatusCode == http.StatusGatewayTimeout:
		if !runs {
			return doctor.Skip, fmt.Sprintf("no usher was found running, and a proxy answers that it reaches nobody (%d): examine this again while usher runs", r.StatusCode), ""
		}
		return doctor.Fail, fmt.Sprintf("a proxy answers that it cannot reach the portal (%d)", r.StatusCode),
			"have it lead to portal.listen, " + c.Portal.Listen
	}
	return doctor.Fail, fmt.Sprintf("another server answers /login (%d), and hosts cannot log in", r.StatusCode), leadThere
}

// unreachedPortal judges that there was no answer. This machine may be unable to reach an address that browsers reach.
func unreachedPortal(c *config.Config, runs bool, err error) (status doctor.Status, says, mend string) {
	var unknown *net.DNSError
	switch {
	case errors.As(err, &unknown):
		return doctor.Warn, "its name is not known here: " + err.Error(), "add the name to DNS, or mend portal.public_url"
	case errors.Is(err, syscall.ECONNREFUSED) && !runs:
		return doctor.Skip, "no usher was found running, and nobody listens there: examine this again while usher runs", ""
	case errors.Is(err, syscall.ECONNREFUSED):
		return doctor.Warn, "nobody listens there: " + err.Error(), "have the proxy listen there and lead to portal.listen, " + c.Portal.Listen + ", or mend portal.public_url"
	}
	return doctor.Warn, "this machine cannot reach it: " + err.Error(), "if browsers cannot, either: mend the certificate, the firewall or the proxy there"
}

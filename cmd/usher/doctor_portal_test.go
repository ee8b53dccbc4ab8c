package main

import (
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/xmpp-usher/usher/auth/keys"
	"github.com/xmpp-usher/usher/auth/portal"
	"github.com/xmpp-usher/usher/component/doctor"
)

// TestDoctorPortal checks what the doctor says of the public address of the portal: by what answers there, and whether usher runs.
func TestDoctorPortal(t *testing.T) {
	staged(t)
	text, err := os.ReadFile("portal-key.yaml")
	if err != nil {
		t.Fatal(err)
	}
	examined := func(address string, runs bool) (checks []doctor.Check) {
		t.Helper()
		write(t, "public.yaml", regexp.MustCompile(`public_url: [^,}\n]*`).ReplaceAllString(string(text), "public_url: "+address))
		c, _, err := load([]string{"public.yaml"}, nil, new(keys.Cache))
		if err != nil {
			t.Fatal(err)
		}
		examinePortal(t.Context(), c, runs, func(c doctor.Check) { checks = append(checks, c) })
		return checks
	}
	for name, test := range map[string]struct {
		status int // 0: nobody listens
		ours   bool
		runs   bool
		want   doctor.Status
		says   string
		mend   string
	}{
		"the portal":           {http.StatusOK, true, true, doctor.OK, "the portal answers", ""},
		"with one provider":    {http.StatusSeeOther, true, true, doctor.OK, "the portal answers", ""},
		"standing by":          {http.StatusServiceUnavailable, true, true, doctor.OK, "the portal answers", ""},
		"by another name":      {http.StatusMisdirectedRequest, true, true, doctor.Fail, "another name", "proxy_set_header Host"},
		"jitsi-meet":           {http.StatusOK, false, true, doctor.Fail, "another server answers /login (200)", "portal.nginx.conf"},
		"jitsi-meet, no usher": {http.StatusOK, false, false, doctor.Fail, "another server answers /login (200)", "portal.nginx.conf"},
		"leads elsewhere":      {http.StatusFound, false, true, doctor.Fail, "another server answers /login (302)", "portal.nginx.conf"},
		"the proxy alone":      {http.StatusBadGateway, false, true, doctor.Fail, "cannot reach the portal (502)", "portal.listen, 127.0.0.1:"},
		"the proxy, no usher":  {http.StatusBadGateway, false, false, doctor.Skip, "examine this again while usher runs", ""},
		"nobody":               {0, false, true, doctor.Warn, "nobody listens there", "portal.public_url"},
		"nobody, no usher":     {0, false, false, doctor.Skip, "examine this again while usher runs", ""},
	} {
		t.Run(name, func(t *testing.T) {
			asked := make(chan string, 10)
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				asked <- r.Method + " " + r.URL.String()
				if test.ours {
					w.Header().Set(portal.Header, "1")
				}
				w.Header().Set("Location", "/elsewhere")
				w.WriteHeader(test.status)
			}))
			defer s.Close()
			if test.status == 0 {
				s.Close()
			}
			checks := examined(s.URL, test.runs)
			if len(checks) != 1 || checks[0].Code != "portal" || checks[0].Of != s.URL || checks[0].Status != test.want ||
				!strings.Contains(checks[0].Says, test.says) || !strings.Contains(checks[0].Mend, test.mend) || (checks[0].Mend == "") != (test.mend == "") {
				t.Errorf("%+v", checks)
			}
			if close(asked); test.status != 0 && (len(asked) != 1 || <-asked != "GET /login") {
				t.Error("not asked once for /login")
			}
		})
	}
	c, _, err := load([]string{"usher.yaml"}, nil, new(keys.Cache))
	if err != nil {
		t.Fatal(err)
	}
	examinePortal(t.Context(), c, true, func(c doctor.Check) { t.Errorf("without a portal: %+v", c) })
}

package config

import (
	"errors"
	"fmt"
	"path/filepath"

	"github.com/xmpp-usher/usher/pkg/smallfile"
)

// Meet is what a configuration of the web page (jitsi-meet's config.js) says, as far as usher needs it.
type Meet struct {
	File string
	// ConferenceRequestURL is where clients send their conference requests by HTTP, instead of by XMPP to usher.
	ConferenceRequestURL MeetValue
	// TokenAuthURL is where the page sends people to log in, and TokenLogoutURL where to log out. AutoRedirect says whether it sends them to
	// log in by itself once they have done so before.
	TokenAuthURL, TokenLogoutURL, AutoRedirect MeetValue

	known bool // whether all of the file is understood
}

// MeetValue is the value of a key of config.js; zero where there is none.
type MeetValue struct {
	// Text is the value if it is a constant text, otherwise the JavaScript that makes it. Source is where it stands.
	Text, Source string
}

// meetFolder is where Debian's packages keep the web page's configurations, one for each domain.
const meetFolder = "/etc/jitsi/meet"

// readMeet reads the web page's configurations. They are for browsers to run, so usher warns of what it does not understand.
func (l *loader) readMeet(files []string, at place) (all []Meet) {
	for _, name := range files {
		if content, ok := l.open(name, at); ok {
			all = append(all, l.readMeetFile(name, string(content)))
		}
	}
	return all
}

// readMeetFile reads one of them.
func (l *loader) readMeetFile(name, content string) Meet {
	from := func(line int) place {
		return place{source: fmt.Sprintf("meet %s:%d", shown(name), line), layer: layerMeet, file: name, line: line}
	}
	values, err := readJavaScript(content, "conferenceRequestUrl", "tokenAuthUrl", "tokenLogoutUrl", "tokenAuthUrlAutoRedirect")
	if bad := (jsError{}); errors.As(err, &bad) {
		l.warnAt(from(bad.line), "is not understood from here on ("+bad.text+"), so what it says is not known")
	}
	m := Meet{File: name, known: err == nil}
	for key, to := range map[string]*MeetValue{"tokenAuthUrl": &m.TokenAuthURL, "tokenLogoutUrl": &m.TokenLogoutURL, "tokenAuthUrlAutoRedirect": &m.AutoRedirect} {
		if v := values[key]; v.text != "" {
			*to = MeetValue{v.text, from(v.line).source}
		}
	}
	if v := values["conferenceRequestUrl"]; v.text != "" {
		m.ConferenceRequestURL = MeetValue{v.text, from(v.line).source}
		f := m.findings()[0]
		l.warnAt(from(v.line), f.Text+": "+f.Mend)
	}
	login := tokenAuthURL{known: err == nil, at: place{source: "meet " + shown(name), layer: layerMeet, file: name}}
	if v := values["tokenAuthUrl"]; v.text != "" {
		login = tokenAuthURL{set: true, known: true, at: from(v.line), text: v.text}
	}
	l.tokenAuthURL = append(l.tokenAuthURL, login)
	return m
}

// findMeet returns the configurations of the web page in a folder that belong to virtual hosts of Prosody's configuration.
func (l *loader) findMeet(folder string) (files []string) {
	if l.prosody == nil || folder == "" {
		return nil
	}
	for _, host := range l.prosody.whole.Hosts {
		file := filepath.Join(folder, filepath.Base(host.Name)+"-config.js")
		if _, err := smallfile.Read(file, maxSource); err == nil && !host.Component {
			files = append(files, file)
		}
	}
	return files
}

// findings returns what usher cannot work with.
func (m Meet) findings() []Finding {
	if m.ConferenceRequestURL.Text == "" {
		return nil
	}
	return []Finding{{Defeats, m.ConferenceRequestURL.Source,
		fmt.Sprintf("conferenceRequestUrl is set (%s): the web page sends its requests to Jicofo by HTTP, past usher, so that nobody gets an affiliation",
			m.ConferenceRequestURL.Text),
		"take conferenceRequestUrl out of this file (docker: without JAAS_APP_ID, and out of custom-config.js)"}}
}

// CompareMeet returns what the web page's configurations (sources.meet) say that usher cannot work with.
func (c *Config) CompareMeet() []Finding {
	var all []Finding
	for _, m := range c.Meet {
		all = append(all, m.findings()...)
		if c.Portal.Listen != "" && m.known {
			all = append(all, m.portalFindings(c.Portal)...)
		}
	}
	return all
}

package prosodytest

import (
	"bufio"
	"encoding/xml"
	"io"
	"net"
	"sync"
)

// Said is a stanza that a component has sent to a [Stage].
type Said struct {
	XMLName  xml.Name
	Type     string `xml:"type,attr"`
	ID       string `xml:"id,attr"`
	From     string `xml:"from,attr"`
	To       string `xml:"to,attr"`
	Inner    string `xml:",innerxml"`
	Payloads []struct {
		XMLName xml.Name
		Items   []struct {
			Role        string `xml:"role,attr"`
			JID         string `xml:"jid,attr"`
			Affiliation string `xml:"affiliation,attr"`
		} `xml:"item"`
	} `xml:",any"`
}

// Stage is one component's connection (XEP-0114) to a server that this process plays, where a real one would cost more than what is
// measured. It lets the component in, whatever its secret.
type Stage struct {
	mu   sync.Mutex
	link net.Conn
}

// NewStage returns a stage on a connection that a component has made.
func NewStage(link net.Conn) *Stage { return &Stage{link: link} }

// Say sends text to the component. Any goroutine may call it.
func (s *Stage) Say(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, _ = io.WriteString(s.link, text) // Play notices when the connection has ended
}

// Play has hears called with each stanza of the component of that domain, until the connection ends. connected is called before that, once
// the component has been let in.
func (s *Stage) Play(domain string, connected func(), hears func(*Said)) {
	in := xml.NewDecoder(bufio.NewReaderSize(s.link, 1<<16))
	for greeted := false; ; {
		t, err := in.Token()
		if err != nil {
			return
		}
		start, is := t.(xml.StartElement)
		switch {
		case !is:
		case !greeted:
			greeted = true
			s.Say("<stream:stream xmlns='jabber:component:accept' xmlns:stream='http://etherx.jabber.org/streams' id='1' from='" + domain + "'>")
		case start.Name.Local == "handshake":
			s.Say("<handshake/>")
			connected()
		default:
			var said Said
			if err := in.DecodeElement(&said, &start); err != nil {
				return
			}
			hears(&said)
		}
	}
}

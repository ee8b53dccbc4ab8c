package ejabberdtest_test

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/xmpp-usher/usher/pkg/ejabberdtest"
	"github.com/xmpp-usher/usher/pkg/prosodytest"
)

func TestProbe(t *testing.T) {
	if os.Getenv("PROBE") == "" {
		t.Skip()
	}
	s := ejabberdtest.Start(t, options())
	usher := s.Component(t, domain, server.Secret)
	us := "focus@" + domain
	drain := func(what string) {
		time.Sleep(200 * time.Millisecond)
		fmt.Println("==", what)
		for _, st := range usher.Drain() {
			fmt.Println("   ", st)
		}
	}
	id := 0
	iq := func(from, typ, payload string) {
		id++
		usher.Sends(fmt.Sprintf("<iq type='%s' id='p%d' from='%s' to='%s'>%s</iq>", typ, id, from, room, payload))
		drain(from + " " + typ + " " + payload)
	}
	pres := func(from, nick, typ string) {
		if typ != "" {
			typ = " type='" + typ + "'"
		}
		usher.Sends("<presence from='" + from + "' to='" + room + "/" + nick + "'" + typ + "><x xmlns='http://jabber.org/protocol/muc'/></presence>")
		drain("presence " + from + " " + nick + typ)
	}
	admin := func(item string) string {
		return "<query xmlns='http://jabber.org/protocol/muc#admin'>" + item + "</query>"
	}
	owner := func(x string) string { return "<query xmlns='http://jabber.org/protocol/muc#owner'>" + x + "</query>" }
	set := func(f, v string) string {
		return owner("<x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE'><value>http://jabber.org/protocol/muc#roomconfig</value></field><field var='" + f + "'><value>" + v + "</value></field></x>")
	}
	iq(us, "get", admin("<item role='moderator'/>"))
	iq(us, "set", admin("<item affiliation='member' jid='x@y.example'/>"))
	pres("stranger@"+domain+"/a", "stranger", "")
	pres(us+"/usher", "focus", "")
	iq(us, "get", admin("<item role='moderator'/>"))
	iq(us+"/usher", "get", admin("<item role='moderator'/>"))
	iq(us, "get", owner(""))
	iq(us, "get", owner(""))
	iq(us, "set", set("{http://prosody.im/protocol/muc}roomconfig_allowmemberinvites", "0"))
	iq(us, "set", set("muc#roomconfig_membersonly", "true"))
	iq(us, "set", set("muc#roomconfig_allow_subscription", "true"))
	iq(us, "set", admin("<item affiliation='' jid='"+us+"'/>"))
	iq(us, "set", admin("<item affiliation='none' jid='"+us+"'/>"))
	iq(us, "set", admin("<item affiliation='member' jid='"+us+"'/>"))
	iq(us, "set", admin("<item affiliation='owner' jid='"+us+"'/>"))
	pres(us+"/usher", "focus", "") // again
	iq(us, "set", admin("<item affiliation='owner' jid='juliet@"+domain+"'/>"))
	iq(us, "set", admin("<item affiliation='member' jid='romeo@"+domain+"'/>"))
	pres("juliet@"+domain+"/a", "juliet", "")
	pres("romeo@"+domain+"/a", "romeo", "")
	usher.Sends("<iq type='set' id='sub' from='romeo@" + domain + "/a' to='" + room + "'><subscribe xmlns='urn:xmpp:mucsub:0' nick='romeo'><event node='urn:xmpp:mucsub:nodes:messages'/><event node='urn:xmpp:mucsub:nodes:presence'/></subscribe></iq>")
	drain("subscribe")
	iq("juliet@"+domain+"/a", "get", admin("<item affiliation='owner'/>"))
	iq("juliet@"+domain+"/a", "set", set("muc#roomconfig_persistentroom", "1"))
	iq("juliet@"+domain+"/a", "set", set("muc#roomconfig_membersonly", "0"))
	pres("eve@"+domain+"/a", "eve", "")
	iq(us, "set", set("muc#roomconfig_membersonly", "1"))
	iq(us, "set", admin("<item affiliation='none' jid='romeo@"+domain+"'/>"))
	usher.Sends("<message type='groupchat' from='juliet@" + domain + "/a' to='" + room + "'><body>hello</body></message>")
	drain("message after romeo was put out")
	iq(us, "set", admin("<item affiliation='outcast' jid='mallory@"+domain+"'/>"))
	iq(us, "set", admin("<item affiliation='outcast' jid='evil.example'/>"))
	iq(us, "get", admin("<item affiliation='outcast'/>"))
	iq(us, "set", admin("<item role='none' nick='juliet'><reason>because</reason></item>"))
	iq(us+"/usher", "set", admin("<item role='none' nick='juliet'><reason>because</reason></item>"))
	pres("juliet@"+domain+"/a", "juliet", "")
	usher.Sends("<message type='groupchat' from='" + us + "' to='" + room + "'><body>from outside</body></message>")
	drain("message of admin outside")
	usher.Sends("<message from='" + us + "/usher' to='" + room + "/juliet' type='chat'><body>private</body></message>")
	drain("private")
	usher.Sends("<message type='groupchat' from='juliet@" + domain + "/a' to='" + room + "'><body/><x/>text</message><presence from='juliet@" + domain + "/a' to='" + room + "/juliet2'/>")
	drain("nick")
	usher.Sends("<message from='juliet@" + domain + "/a' to='" + room + "'><x xmlns='http://jabber.org/protocol/muc#user'><invite to='friend@" + domain + "/res'/></x></message>")
	drain("invite")
	iq("juliet@"+domain+"/a", "set", owner("<destroy><reason>the end</reason></destroy>"))
	iq(us, "get", owner(""))
	usher.Sends("<iq type='get' id='d' from='" + domain + "' to='" + service + "'><query xmlns='http://jabber.org/protocol/disco#info'/></iq><iq type='get' id='d2' from='" + domain + "' to='" + room + "'><query xmlns='http://jabber.org/protocol/disco#info'/></iq><iq type='get' id='v' from='" + domain + "' to='meet.example.com'><query xmlns='jabber:iq:version'/></iq><iq type='get' id='v2' from='" + domain + "' to='meet.example.com'><time xmlns='urn:xmpp:time'/></iq><iq type='get' id='n' from='" + domain + "' to='nothere.example.com'><query xmlns='http://jabber.org/protocol/disco#info'/></iq>")
	drain("disco")
	c := s.Client(t, prosodytest.ClientOptions{Host: "meet.example.com"})
	usher.Kill()
	c.Sends("<iq type='set' id='1' to='" + domain + "'><x xmlns='a'/></iq>")
	time.Sleep(time.Second)
	fmt.Println(c.Drain())
}

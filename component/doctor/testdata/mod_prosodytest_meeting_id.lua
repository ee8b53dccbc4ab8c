-- What Jitsi's muc_meeting_id refuses: any change to somebody whose node is focus.

local jid = require "util.jid";
local st = require "util.stanza";

module:hook("iq-set/bare/http://jabber.org/protocol/muc#admin:query", function (event)
	for item in event.stanza.tags[1]:childtags("item") do
		if item.attr.jid and jid.node(item.attr.jid) == "focus" then
			event.origin.send(st.error_reply(event.stanza, "cancel", "not-allowed"));
			return true;
		end
	end
end, 10);

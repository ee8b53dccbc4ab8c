-- Refuses members, as a module does that decides beside usher.

local st = require "util.stanza";

module:hook("muc-occupant-pre-join", function (event)
	if event.room:get_affiliation(event.stanza.attr.from) ~= "owner" then
		event.origin.send(st.error_reply(event.stanza, "cancel", "not-allowed"));
		return true;
	end
end, 99);

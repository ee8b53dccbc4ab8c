-- Stands in for Jitsi's muc_hide_all; loaded on MUC services. Rooms are on no list, and answer disco#info only to their
-- occupants.

local st = require "util.stanza";
local muc = module:depends("muc");

module:hook("muc-room-pre-create", function (event)
	event.room:set_public(false);
end);

module:hook("iq-get/bare/http://jabber.org/protocol/disco#info:query", function (event)
	local stanza = event.stanza;
	local room = muc.get_room_from_jid(stanza.attr.to);
	if room and not room:get_occupant_by_real_jid(stanza.attr.from) then
		event.origin.send(st.error_reply(stanza, "auth", "forbidden"));
		return true;
	end
end, 1);

-- Stands in for Jitsi's filter_iq_jibri; loaded on virtual hosts of people. To start or stop a recording takes the feature recording,
-- and a stream the feature livestreaming: in the session's table of features if there is one, otherwise by being a moderator. Whatever
-- else Jibri is asked passes. Limits of the rate are not played.

local jid = require "util.jid";
local st = require "util.stanza";

local rooms = module:require("prosodytest_rooms");

local function lower(text)
	return text and text:lower();
end

module:hook("pre-iq/full", function (event)
	local session, stanza = event.origin, event.stanza;
	local jibri = stanza:get_child("jibri", "http://jitsi.org/protocol/jibri");
	if not jibri then
		return;
	end
	local service = prosody.hosts[rooms.service].modules.muc;
	local room = service.get_room_from_jid(rooms.internal(jid.bare(stanza.attr.to)));
	if not room then
		session.send(st.error_reply(stanza, "cancel", "item-not-found"));
		return true;
	end
	local action = lower(jibri.attr.action);
	if action ~= "start" and action ~= "stop" then
		return;
	end
	local features, may = session.jitsi_meet_context_features;
	if features then
		local value = features[lower(jibri.attr.recording_mode) == "file" and "recording" or "livestreaming"];
		may = value == true or value == "true";
	else
		local occupant = room:get_occupant_by_real_jid(stanza.attr.from);
		may = occupant and occupant.role == "moderator";
	end
	if not may then
		session.send(st.error_reply(stanza, "auth", "forbidden"));
		return true;
	end
end);

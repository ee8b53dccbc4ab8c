-- Stands in for Jitsi's room_metadata_component. It is loaded in the same way: as a component, with the options muc_component
-- and breakout_rooms_component. It sends the room's metadata to each new occupant, before the occupant's own presence, and to
-- all occupants when another module changes it. Changes by moderators are not played.

local filters = require "util.filters";
local jid = require "util.jid";
local json = require "util.json";
local st = require "util.stanza";

local main_muc = assert(module:get_option_string("muc_component"));
local breakout_muc = module:get_option_string("breakout_rooms_component");
local vhost = assert(module:get_option_string("muc_mapper_domain_base"));
local rooms = module:require("prosodytest_rooms");

local function send(room, occupant, joins)
	local metadata = {};
	for key, value in pairs(room.jitsiMetadata or {}) do
		metadata[key] = value;
	end
	if rooms.is_admin(occupant.jid) then
		metadata.moderators = json.array and json.array({}) or {};
	elseif joins then
		metadata.services = {}; -- the list of TURN servers
	end
	module:send(st.message({ from = module.host, to = occupant.jid })
		:text_tag("json-message", json.encode({ type = "room_metadata", metadata = metadata }),
			{ xmlns = "http://jitsi.org/jitmeet", room = rooms.external(room.jid) }));
end

local function tell(stanza)
	local host = rooms.own_presence(stanza) and prosody.hosts[jid.host(rooms.internal(stanza.attr.from))];
	local muc = host and host.modules.muc;
	local room = muc and muc.get_room_from_jid(rooms.internal(jid.bare(stanza.attr.from)));
	local told, to = room and room.prosodytest_metadata, jid.bare(stanza.attr.to);
	if told and not told[to] then
		for _, occupant in room:each_occupant() do
			if occupant.bare_jid == to then
				told[to] = true;
				send(room, occupant, true);
				break;
			end
		end
	end
	return stanza;
end

filters.add_filter_hook(function (session)
	filters.add_filter(session, "stanzas/out", tell, -3); -- after the permissions
end);

module:hook_global("server-started", function ()
	module:context(vhost):fire_event("jitsi-add-identity", { name = "room_metadata", host = module.host });
	for _, host in ipairs({ main_muc, breakout_muc }) do
		local at = module:context(host);
		at:hook("muc-room-created", function (event)
			if not rooms.is_health_check(event.room) then
				event.room.jitsiMetadata = event.room.jitsiMetadata or {};
				event.room.prosodytest_metadata = {};
			end
		end, -1);
		at:hook("muc-occupant-left", function (event)
			if event.room.prosodytest_metadata then
				event.room.prosodytest_metadata[jid.bare(event.occupant.jid)] = nil;
			end
		end);
		at:hook("room-metadata-changed", function (event)
			for _, occupant in event.room:each_occupant() do
				send(event.room, occupant);
			end
		end);
	end
end, 1); -- before mod_prosodytest reports that Prosody is ready

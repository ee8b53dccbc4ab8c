-- Stands in for Jitsi's muc_breakout_rooms. It is loaded in the same way: on the main virtual host, with the options main_muc
-- and breakout_rooms_muc. On the wire it differs as follows:
--
-- * A moderator's message belongs to the main room that the moderator is in, or to that of the breakout room that the
--   moderator is in. Jitsi takes the main room from ?room= of the connection, which stock Prosody does not keep.
-- * It knows only the messages add, remove and move-to-room.
-- * It sends the new state at once, not at most every 0.3 seconds.
-- * It reserves no nick for an occupant on the way from one room to another.

local jid = require "util.jid";
local json = require "util.json";
local st = require "util.stanza";
local uuid = require "util.uuid".generate;

local rooms = module:require("prosodytest_rooms");

local main_muc = assert(module:get_option_string("main_muc"));
local breakout_muc = module:get_option_string("breakout_rooms_muc", "breakout."..module.host);
local ttl = module:get_option_number("prosodytest_breakout_ttl", 5); -- seconds that the main room outlives its last occupant

module:add_identity("component", "breakout_rooms", breakout_muc);

local main, breakout; -- the two MUC modules
local main_of = {}; -- breakout room to main room, both as JIDs
local subjects = {}; -- main room as JID to a table of its breakout rooms: JID to subject
local counters = {}; -- main room as JID to the number of breakout rooms created so far

local function main_room_of(room)
	return main.get_room_from_jid(jid.host(room.jid) == main_muc and room.jid or main_of[room.jid]);
end

-- The main room and those of its breakout rooms that exist.
local function all_rooms(main_room)
	local found = { main_room };
	for room_jid in pairs(subjects[main_room.jid] or {}) do
		found[#found+1] = breakout.get_room_from_jid(room_jid);
	end
	return found;
end

local function people(room)
	local found = {};
	for nick, occupant in room:each_occupant() do
		if not rooms.is_admin(occupant.jid) then
			found[nick] = occupant;
		end
	end
	return found;
end

local function send_json(to, content)
	module:send(st.message({ from = breakout_muc, to = to })
		:text_tag("json-message", json.encode(content), { xmlns = "http://jitsi.org/jitmeet" }));
end

local function describe(room_jid, name, is_main)
	local room = (is_main and main or breakout).get_room_from_jid(room_jid);
	local participants = {};
	for nick, occupant in pairs(room and people(room) or {}) do
		participants[nick] = {
			jid = occupant.jid, role = occupant.role,
			displayName = occupant:get_presence():get_child_text("nick", "http://jabber.org/protocol/nick"),
		};
	end
	return { id = jid.node(room_jid), jid = rooms.external(room_jid), name = name, isMainRoom = is_main, participants = participants };
end

local function broadcast(main_room)
	local _, main_subject = main_room:get_subject();
	local described = { [jid.node(main_room.jid)] = describe(main_room.jid, main_subject, true) };
	for room_jid, subject in pairs(subjects[main_room.jid]) do
		described[jid.node(room_jid)] = describe(room_jid, subject);
	end
	for _, room in ipairs(all_rooms(main_room)) do
		for _, occupant in pairs(people(room)) do
			send_json(occupant.jid, {
				type = "breakout_rooms", event = "features/breakout-rooms/update",
				roomCounter = counters[main_room.jid], rooms = described,
			});
		end
	end
end

local function add(main_room, subject)
	local room_jid = jid.join(uuid(), breakout_muc);
	main_of[room_jid] = main_room.jid;
	subjects[main_room.jid] = subjects[main_room.jid] or {};
	subjects[main_room.jid][room_jid] = subject or "";
	main_room._data.breakout_rooms = subjects[main_room.jid]; -- where Jitsi's module has them, and others look
	counters[main_room.jid] = (counters[main_room.jid] or 0) + 1;
	main_room:set_persistent(true); -- all occupants may be in the breakout rooms for a while
	broadcast(main_room);
end

local function remove(main_room, room_jid, reason)
	if main_of[room_jid] ~= main_room.jid then
		return;
	end
	local room = breakout.get_room_from_jid(room_jid);
	if room then
		room:destroy(main_room.jid, reason or "Breakout room removed.");
	end
	main_of[room_jid] = nil;
	subjects[main_room.jid][room_jid] = nil;
end

local function find_moderator(from)
	local found;
	local function look(room)
		local occupant = room:get_occupant_by_real_jid(from);
		if occupant and occupant.role == "moderator" then
			found = found or main_room_of(room);
		end
	end
	for room in main.live_rooms() do look(room); end
	for room in breakout.live_rooms() do look(room); end
	return found;
end

local function control(event)
	local stanza = event.stanza;
	local message = stanza:get_child("breakout_rooms");
	local main_room = stanza.attr.type ~= "error" and message and find_moderator(stanza.attr.from);
	if not main_room then
		return;
	end
	if message.attr.type == "features/breakout-rooms/add" then
		add(main_room, message.attr.subject);
		return true;
	elseif message.attr.type == "features/breakout-rooms/remove" then
		remove(main_room, message.attr.breakoutRoomJid);
		broadcast(main_room);
		return true;
	elseif message.attr.type == "features/breakout-rooms/move-to-room" then
		local room_jid = message.attr.roomJid;
		if room_jid == rooms.external(main_room.jid) or main_of[room_jid] == main_room.jid then
			send_json(message.attr.participantJid, { type = "breakout_rooms", event = message.attr.type, roomJid = room_jid });
			return true;
		end
	end
end

local function refuse(event, condition)
	event.origin.send(st.error_reply(event.stanza, "cancel", condition, nil, event.room.jid));
	return true;
end

-- A nick belongs to one person in the main room and all its breakout rooms.
local function pre_join(event)
	local room, stanza = event.room, event.stanza;
	local main_room = main_room_of(room);
	if not main_room then
		return refuse(event, "service-unavailable");
	end
	if rooms.is_admin(stanza.attr.from) then
		return;
	end
	local nick = jid.resource(stanza.attr.to);
	for _, other in ipairs(all_rooms(main_room)) do
		local occupant = other ~= room and other:get_occupant_by_nick(jid.join(jid.node(other.jid), jid.host(other.jid), nick));
		if occupant and occupant.bare_jid ~= jid.bare(stanza.attr.from) then
			return refuse(event, "conflict");
		end
	end
	if room ~= main_room and event.origin.prosodytest_main_room ~= main_room.jid then
		return refuse(event, "not-allowed");
	end
end

local function joined(event)
	local room = event.room;
	if jid.host(room.jid) == main_muc and event.origin then
		event.origin.prosodytest_main_room = room.jid;
	end
	local main_room = main_room_of(room);
	if main_room and subjects[main_room.jid] and not rooms.is_admin(event.occupant.jid) then
		broadcast(main_room);
	end
end

local function left(event)
	local main_room = main_room_of(event.room);
	if not main_room or main_room.destroying or not subjects[main_room.jid] then
		return;
	end
	broadcast(main_room);
	local function is_empty()
		for _, room in ipairs(all_rooms(main_room)) do
			if next(people(room)) then
				return false;
			end
		end
		return true;
	end
	if is_empty() then
		module:add_timer(ttl, function ()
			if main.get_room_from_jid(main_room.jid) == main_room and is_empty() then
				main_room:destroy(nil, "All occupants left.");
			end
		end);
	end
end

local function add_fields(event, room)
	local main_jid = rooms.external(main_of[room.jid]);
	table.insert(event.form, { name = "muc#roominfo_isbreakout", type = "boolean", label = "Breakout room", value = true });
	table.insert(event.form, { name = "muc#roominfo_breakout_main_room", type = "text-single", label = "Main room", value = main_jid });
	return main_jid;
end

module:hook_global("server-started", function ()
	main, breakout = prosody.hosts[main_muc].modules.muc, prosody.hosts[breakout_muc].modules.muc;

	local at_main, at_breakout = module:context(main_muc), module:context(breakout_muc);
	for _, at in ipairs({ at_main, at_breakout }) do
		at:hook("muc-occupant-pre-join", pre_join);
		at:hook("muc-occupant-pre-change", pre_join);
		at:hook("muc-occupant-joined", joined);
		at:hook("muc-occupant-left", left);
	end
	at_main:hook("muc-room-destroyed", function (event)
		local main_room = event.room;
		for room_jid in pairs(subjects[main_room.jid] or {}) do
			remove(main_room, room_jid, event.reason);
		end
		subjects[main_room.jid], counters[main_room.jid] = nil, nil;
	end, 1);

	at_breakout:hook("message/host", control);
	-- As in Jitsi's module, the client that wanted to enter gets no answer.
	at_breakout:hook("muc-room-pre-create", function (event)
		if not main_room_of(event.room) then
			event.room:destroy(nil, "Breakout room is invalid.");
			return true;
		end
	end);
	at_breakout:hook("muc-config-form", function (event) add_fields(event, event.room); end);
	at_breakout:hook("muc-disco#info", function (event)
		event.formdata["muc#roominfo_breakout_main_room"] = add_fields(event, event.room);
		event.formdata["muc#roominfo_isbreakout"] = true;
	end);

	function breakout.room_mt.get_affiliation(room, who)
		local main_room = main_room_of(room);
		return main_room and main_room:get_affiliation(who) or "none";
	end
	function breakout.room_mt.get_members_only(room)
		local main_room = main_room_of(room);
		return main_room and main_room:get_members_only() or false;
	end
end, 1); -- before mod_prosodytest reports that Prosody is ready

-- Stands in for Jitsi's muc_meeting_id; loaded on the MUC services of main rooms and of breakout rooms. Nobody can change the
-- focus's affiliation, nobody enters before the focus, and a kick also takes the affiliation. The focus is the occupant with
-- the nick "focus", and in muc#admin items every JID with the node "focus". Jitsi's handling of messages is not played.

local jid = require "util.jid";
local queue = require "util.queue";
local st = require "util.stanza";
local uuid = require "util.uuid".generate;

local muc = module:depends("muc");
local rooms = module:require("prosodytest_rooms");

local function is_focus(nick)
	return nick:sub(-#"/focus") == "/focus";
end

local function refuse(event, error_type, condition)
	event.origin.send(st.error_reply(event.stanza, error_type, condition));
	return true;
end

module:hook("muc-room-created", function (event)
	if not rooms.is_health_check(event.room) then
		event.room._data.meetingId = uuid();
	end
end);

local function add_field(event)
	table.insert(event.form, {
		name = "muc#roominfo_meetingId", type = "text-single", label = "The meeting unique id.", value = event.room._data.meetingId or "";
	});
end
module:hook("muc-disco#info", add_field);
module:hook("muc-config-form", add_field, 87);

for _, field in ipairs({ "moderatedroom", "presencebroadcast" }) do
	module:hook("muc-config-submitted/muc#roomconfig_"..field, function () return true; end, 99);
end
module:hook("muc-config-submitted/muc#roominfo_meetingId", function (event)
	if rooms.is_admin(event.actor) then
		event.room._data.meetingId = event.value;
		return;
	end
	return true;
end, 99);

module:hook("muc-broadcast-presence", function (event)
	local x = event.x and event.x.base or event.x;
	if x and x:get_child_with_attr("status", nil, "code", "307") then
		event.room:set_affiliation(event.actor, event.occupant.bare_jid, "none");
	end
end);

-- Only Jicofo enters the rooms of its health checks. In other rooms at most 500 joins wait, unanswered, until Jicofo is inside.
module:hook("muc-room-pre-create", function (event)
	if rooms.is_health_check(event.room) and not is_focus(event.stanza.attr.to) then
		return refuse(event, "cancel", "service-unavailable");
	end
end, 100);
module:hook("muc-occupant-pre-join", function (event)
	local room, nick = event.room, event.occupant.nick;
	if rooms.is_health_check(room) then
		return not is_focus(nick) and refuse(event, "cancel", "service-unavailable") or nil;
	elseif room._data.jicofo_lock == false then
		return;
	elseif not is_focus(nick) then
		room._data.jicofo_lock = true;
		room.prosodytest_waiting = room.prosodytest_waiting or queue.new(500);
		room.prosodytest_waiting:push(event);
		return true;
	end
	local waiting = room.prosodytest_waiting;
	room._data.jicofo_lock, room.prosodytest_waiting = false, nil;
	for _, other in (waiting or queue.new(1)):items() do
		if other.origin.conn then
			room:handle_normal_presence(other.origin, other.stanza);
		end
	end
end, 8);

local function guard(event)
	local stanza = event.stanza;
	local room = muc.get_room_from_jid(jid.bare(stanza.attr.to));
	for item in (room and stanza.tags[1] or st.stanza("query")):childtags("item") do
		if item.attr.nick == "focus" or item.attr.jid and jid.node(item.attr.jid) == "focus" then
			module:log("warn", "Blocking attempt to modify %s in room %s", item.attr.jid or item.attr.nick, room.jid);
			return refuse(event, "cancel", "not-allowed");
		end
	end
end
for _, to in ipairs({ "bare", "host" }) do
	module:hook("iq-set/"..to.."/http://jabber.org/protocol/muc#admin:query", guard, 10);
end

-- Jitsi's module loads it, too. Only main rooms use it.
if module.host == rooms.service then
	module:depends("prosodytest_permissions");
end

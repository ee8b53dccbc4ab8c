-- mod_usher, which comes with usher: "usher config prosody --module DIR" writes this file, and overwrites it.
--
-- It is for MUC services, on Prosody 0.12 and 13, and decides nothing. It keeps people without an affiliation out of open rooms. With
-- the option usher_component it also tells that component what happens in rooms, and takes affiliations and tokens' features from it.
-- The stanzas are described in config/prosody/module/README.md of usher.
local jid, json, st = require "util.jid", require "util.json", require "util.stanza";

local xmlns, muc_ns = "urn:usher:module:0", "http://jabber.org/protocol/muc";
local usher = module:get_option_string("usher_component");
local boot, n = require "util.id".medium(), 0; -- what is told is numbered, so that usher notices a gap, or a reload of this module
local listener, whole; -- usher's connection once it has asked to be told, and whether it wants all that happens
local told = setmetatable({}, { __mode = "k" }); -- what usher knows of a room; false if it has ended
local makers = setmetatable({}, { __mode = "k" }); -- who made the affiliations of a room, as far as this module has seen it
local giving; -- what is being given in this moment
local nowhere = {};

-- usher's own connection is the only one that is obeyed. Nobody else has this table as origin, whatever their stanza says.
local function connection()
	local component = usher and prosody.hosts[usher] and prosody.hosts[usher].modules.component;
	return component and component.session or nil;
end

local function listens()
	return listener and listener == connection();
end

local function about(name, attr)
	n = n + 1;
	return st.message({ from = module.host, to = usher })
		:tag("told", { xmlns = xmlns, boot = boot, n = ("%d"):format(n) }):tag(name, attr);
end

local function tell(name, attr)
	listener.send(about(name, attr));
end

local function nick_of(occupant_jid)
	return (select(3, jid.split(occupant_jid)));
end

-- A number stands for the settings, because those of all rooms are compared again and again.
local function settings(room)
	local d = room._data;
	return (d.members_only and 1 or 0) + (room:get_whois() == "anyone" and 2 or 0) + (d.allow_member_invites and 4 or 0)
		+ (d.persistent and 8 or 0) + (room:get_password() and 16 or 0) + (d.locked and os.time() < d.locked and 32 or 0)
		+ (next(d.breakout_rooms or nowhere) and 64 or 0), d.lobbyroom;
end

local setting_names = { "members_only", "public_jids", "member_invites", "persistent", "password", "locked", "breakouts" };
local function write_settings(known, attr)
	for i, name in ipairs(setting_names) do
		attr[name] = known.flags // 2^(i-1) % 2 == 1 and "1" or nil;
	end
	attr.lobby, attr.main = known.lobby, known.main;
	return attr;
end

local function compare(room)
	local known = told[room];
	if not known or not listens() then return; end
	local flags, lobby = settings(room);
	if flags ~= known.flags or lobby ~= known.lobby then
		known.flags, known.lobby = flags, lobby;
		tell("settings", write_settings(known, { room = room.jid }));
	end
end

-- Jitsi's plugin names the main room of a breakout room in the form only (mod_muc_breakout_rooms.lua).
local function main_of(room)
	for _, field in ipairs(room:get_form_layout(usher)) do
		if field.name == "muc#roominfo_breakout_main_room" then return field.value; end
	end
end

local function occupant_of(room, o)
	return { nick = nick_of(o.nick), jid = o.jid, role = o.role, affiliation = room:get_affiliation(o.bare_jid) or "none" };
end

local function affiliation_of(room, who, affiliation)
	return { jid = who, affiliation = affiliation, by = makers[room] and makers[room][who] };
end

-- A room of many people is told in parts, because usher limits the size of a stanza.
local function tell_room(room)
	if not whole or not listens() or room._data.destroyed then return; end
	local known = { roles = {}, jids = {}, main = main_of(room) };
	known.flags, known.lobby = settings(room);
	told[room] = known;
	local message, count, more = about("room", write_settings(known, { jid = room.jid })), 0, {};
	local function add(name, late, attr)
		count = count + 1;
		if count <= 100 then
			message:tag(name, attr):up();
		else
			attr.room = room.jid;
			more[#more+1] = { late, attr };
		end
	end
	for nick, o in room:each_occupant() do
		known.roles[nick], known.jids[nick] = o.role, o.jid;
		add("occupant", "joined", occupant_of(room, o));
	end
	for who, affiliation in room:each_affiliation() do
		add("affiliation", "affiliation", affiliation_of(room, who, affiliation));
	end
	listener.send(message);
	known.n = n;
	for _, part in ipairs(more) do tell(part[1], part[2]); end
end

-- A few rooms at a time, because Prosody does nothing else meanwhile. Rooms that are only in the store are restored for it.
local function tell_all()
	local muc, mine, queue = prosody.hosts[module.host].modules.muc, listener, {};
	for room_jid in pairs(module:open_store("persistent"):get() or nowhere) do queue[#queue+1] = room_jid; end
	for room in muc.live_rooms() do queue[#queue+1] = room.jid; end
	module:add_timer(0, function ()
		local pause = os.clock() + 0.004;
		while whole == queue and listener == mine and listens() do
			local room = queue[1] and muc.get_room_from_jid(table.remove(queue));
			if room and told[room] == nil then tell_room(room); end
			if not queue[1] then return tell("complete"); end
			if os.clock() > pause then return 0.008; end
		end
	end);
	return queue;
end

local whys = { ["301"] = "banned", ["303"] = "renamed", ["307"] = "kicked", ["321"] = "affiliation", ["322"] = "members-only", ["333"] = "error" };
local function why(x)
	for _, tag in ipairs(x.tags) do
		local known = tag.name == "destroy" and "destroyed" or whys[tag.attr.code];
		if known then return known; end
	end
end

-- Every change of an occupant goes through here, and so does every update of presence: usually, two looks into a table are all.
module:hook("muc-broadcast-presence", function (event)
	local room, o = event.room, event.occupant;
	local known, nick = told[room], o.nick;
	if not known then return; end
	local role, was, was_jid = o.role, known.roles[nick], known.jids[nick];
	if role == was and (o.jid == was_jid or not role) or not listens() then return; end
	known.roles[nick], known.jids[nick] = role, role and o.jid;
	local by = event.actor and jid.bare(event.actor) or nil;
	if not role then
		tell("left", { room = room.jid, nick = nick_of(nick), jid = was_jid, by = by, why = why(event.x),
			breakouts = next(room._data.breakout_rooms or nowhere) and "1" or nil });
	elseif not was or o.jid ~= was_jid then
		local attr = occupant_of(room, o);
		attr.room = room.jid;
		tell("joined", attr);
	else
		tell("role", { room = room.jid, nick = nick_of(nick), jid = o.jid, role = role, by = by });
	end
end, 1000);

local function begin(event)
	if told[event.room] == nil then tell_room(event.room); end
end
module:hook("muc-occupant-joined", begin, -1000);
module:hook("muc-room-created", begin, -1000);
module:hook("muc-room-restored", begin, -1000);

module:hook("muc-room-destroyed", function (event)
	local room = event.room;
	if told[room] and listens() then tell("ended", { room = room.jid, reason = event.reason }); end
	told[room] = false;
end, 1000);

local function compare_of(event) compare(event.room); end
for _, field in ipairs { "", "/muc#roomconfig_membersonly", "/muc#roomconfig_whois", "/muc#roomconfig_persistentroom",
	"/muc#roomconfig_roomsecret", "/{http://prosody.im/protocol/muc}roomconfig_allowmemberinvites" } do
	module:hook("muc-config-submitted"..field, compare_of, -1000);
end
module:hook_global("create-lobby-room", compare_of, -1000);
module:hook_global("destroy-lobby-room", compare_of, -1000);

-- Jitsi's plugins read one table of features in a session, whatever the room (token/util.lib.lua). A session that was admitted to
-- several rooms with different tokens may do in each of them only what all of these tokens allow.
local function least(a, b)
	local both = {};
	for name, value in pairs(a or nowhere) do
		if (b or nowhere)[name] == value then both[name] = value; end
	end
	both["name-readonly"] = (a or nowhere)["name-readonly"] or (b or nowhere)["name-readonly"]; -- it forbids (mod_muc_displayname.lua)
	return (a or b) and both;
end

local function put_context(session)
	local mine, before = session.usher, session.jitsi_meet_context_features;
	local features, changed = mine.last.features, false;
	mine.several = false;
	for _, context in pairs(mine.rooms) do
		if context.text ~= mine.last.text then features, mine.several = least(features, context.features), true; end
	end
	session.jitsi_meet_context_features = features;
	session.jitsi_meet_context_user, session.jitsi_meet_context_group = mine.last.user, mine.last.group;
	for name, value in pairs(features or nowhere) do changed = changed or (before or nowhere)[name] ~= value; end
	for name in pairs(before or nowhere) do changed = changed or (features or nowhere)[name] == nil; end
	-- mod_jitsi_permissions.lua tells the client then. Where there are no features, it would allow everything.
	session.force_permissions_update = features and (changed or session.force_permissions_update) or nil;
end

local function all_of(kind, t)
	if t ~= nil and type(t) ~= "table" then return false; end
	for name, value in pairs(t or nowhere) do
		if type(name) ~= "string" or type(value) ~= kind then return false; end
	end
	return true;
end

-- Text that is not understood allows nothing.
local function set_context(session, room_jid, text)
	local context = text == "" and {} or json.decode(text);
	local is_good = type(context) == "table" and all_of("boolean", context.features) and all_of("string", context.user)
		and (context.group == nil or type(context.group) == "string");
	context = is_good and context or { features = {} };
	context.text = text;
	session.usher = session.usher or { rooms = {} };
	session.usher.rooms[room_jid], session.usher.last = context, context;
	put_context(session);
	return is_good;
end

-- mod_auth_token.lua (priority 1) sets what the token said when the session was begun, once more when it is resumed.
module:hook_global("c2s-session-updated", function (event)
	if event.session.usher then put_context(event.session); end
end);

module:hook("muc-set-affiliation", function (event)
	local room, who, affiliation, was = event.room, event.jid, event.affiliation, event.previous_affiliation;
	local by = event.actor and jid.bare(event.actor) or nil;
	makers[room] = makers[room] or {};
	makers[room][who] = affiliation ~= "none" and by or nil;
	local user = prosody.bare_sessions[who];
	for _, session in pairs(user and user.sessions or nowhere) do
		-- mod_jitsi_permissions.lua gives people who become owners the features of the owner who made them, and takes all away again.
		if session.usher and (session.usher.several or was == "owner" and affiliation ~= "owner") then put_context(session); end
	end
	local known, given = told[room], giving;
	if not known or not listens() then return; end
	if given and given.room == room.jid and given.jid == who then
		if was == given.was and known.n <= given.n then return; end -- usher knows
	elseif was == affiliation then
		return;
	end
	tell("affiliation", { room = room.jid, jid = who, affiliation = affiliation, by = by });
	known.n = n;
end, 1000);

-- Everything happens as if usher had sent the request of XEP-0045 §9, but the people inside hear nothing of somebody who is outside.
local function set_affiliation(event, room, give)
	local condition = "undefined-condition";
	local origin = setmetatable({ send = function (reply)
		condition = reply.attr.type == "error" and select(2, reply:get_error()) or nil;
	end }, { __index = event.origin });
	local request = st.iq({ type = "set", id = boot, from = event.stanza.attr.from, to = give.room })
		:query(muc_ns.."#admin"):tag("item", { jid = give.jid, affiliation = give.affiliation });
	if give.reason then request:text_tag("reason", give.reason); end
	local broadcast = rawget(room, "broadcast");
	function room:broadcast(stanza, ...)
		local x = stanza.name == "message" and not stanza:get_child("body") and stanza:get_child("x", muc_ns.."#user");
		local item = x and x:get_child("item");
		if item and item.attr.jid == give.jid then return; end
		return (broadcast or getmetatable(self).__index.broadcast)(self, stanza, ...);
	end
	giving = give;
	local ok, err = pcall(module.send, module, request, origin);
	giving, room.broadcast = nil, broadcast;
	if not ok then module:log("error", "giving %s an affiliation in %s: %s", give.jid, give.room, err); end
	return condition;
end

local function take(event, child)
	local a = child.attr;
	local room_jid, who = jid.prep(a.room), jid.prep(a.jid);
	local room = jid.host(room_jid) == module.host and prosody.hosts[module.host].modules.muc.get_room_from_jid(room_jid) or nil;
	local session = a.session and prosody.full_sessions[jid.prep(a.session)];
	local condition = not (room_jid and who) and "jid-malformed" or nil;
	if not condition and session and not set_context(session, room_jid, child:get_text()) then condition = "bad-request"; end
	if condition == nil and a.affiliation then
		if not room then
			condition = "item-not-found";
		elseif room:get_affiliation(who) == "outcast" or room._affiliations[who] == "outcast" then
			condition = "outcast";
		else
			condition = set_affiliation(event, room, { room = room_jid, jid = who, affiliation = a.affiliation, was = a.was,
				reason = a.reason, n = tonumber(a.n) or math.huge });
		end
	end
	if condition and listens() then
		tell("refused", { room = a.room, jid = a.jid, affiliation = a.affiliation, condition = condition, is = room and room._affiliations[who] });
	end
end

module:hook("message/host", function (event)
	local give = event.stanza.attr.type ~= "error" and event.stanza:get_child("give", xmlns);
	if not give or event.origin ~= connection() then return; end
	take(event, give);
	return true;
end);

module:hook("iq-get/host/"..xmlns..":listen", function (event)
	if event.origin ~= connection() then return; end
	listener, whole, told = event.origin, nil, setmetatable({}, { __mode = "k" });
	event.origin.send(st.reply(event.stanza):tag("listening", { xmlns = xmlns, version = "1", boot = boot, n = ("%d"):format(n) }));
	if event.stanza.tags[1].attr.tell == "all" then whole = tell_all(); end
	return true;
end);

module:hook("iq-get/host/"..xmlns..":alive", function (event)
	if event.origin ~= connection() then return; end
	if not listens() or event.stanza.tags[1].attr.boot ~= boot then
		event.origin.send(st.error_reply(event.stanza, "cancel", "item-not-found"));
		return true;
	end
	for room in pairs(told) do compare(room); end -- plugins switch members-only and the lobby without saying so
	event.origin.send(st.reply(event.stanza):tag("alive", { xmlns = xmlns, boot = boot, n = ("%d"):format(n) }));
	return true;
end);

listener = connection();
if listener then
	n = -1; -- this is not counted
	tell("hello", { version = "1" });
	listener = nil;
end

function module.unload()
	if listens() then tell("bye"); end
end

-- The rest keeps people without an affiliation out of a room that is open, as members-only (XEP-0045 §5.2) would.
local is_admin; -- an admin of the service
if module.could then -- Prosody 13
	module:default_permission("prosody:admin", ":enter-open-rooms");
	function is_admin(jid) return module:could(":enter-open-rooms", jid); end
else
	local usermanager = require "core.usermanager";
	function is_admin(jid) return usermanager.is_admin(jid, module.host); end
end

-- In breakout rooms Jitsi's plugin says "none", where Prosody says nothing (mod_muc_breakout_rooms.lua, get_affiliation).
local function has_none(affiliation)
	return not affiliation or affiliation == "none";
end

-- This comes after Jitsi's token_affiliation (-3.5), which may give an affiliation in this moment. It comes before everything that
-- decides by affiliation: Jitsi's lobby (-4), members-only itself (-5), and the check for bans (-10).
module:hook("muc-occupant-pre-join", function (event)
	local room, jid = event.room, event.stanza.attr.from;
	if room:get_members_only() or not has_none(room:get_affiliation(jid)) then
		return;
	elseif is_admin(jid) then
		event.occupant.role = "participant"; -- by affiliation it would be none
		return;
	end
	event.origin.send(st.error_reply(event.stanza, "auth", "registration-required", nil, room.jid));
	return true;
end, -3.9);

-- Without an affiliation there is no role. So people who lose the affiliation are removed (status 321), and nobody outside may do
-- what participants may. Members-only rooms have the same, with the same priority (modules/muc/members_only.lib.lua).
module:hook("muc-get-default-role", function (event)
	if has_none(event.affiliation) then
		return false;
	end
end, 2);

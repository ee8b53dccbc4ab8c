-- mod_usher, which comes with usher: "usher config prosody --module DIR" writes this file, and overwrites it. It is for MUC services on
-- Prosody 0.12 and 13, and decides nothing. It keeps people without an affiliation out of open rooms. With the option usher_component it
-- tells that component what happens in rooms, and takes from it affiliations and the features of tokens: see README.md beside this file.
local jid, json, st, xmlns, nothing = require "util.jid", require "util.json", require "util.stanza", "urn:usher:module:0", {};
local usher, boot, n = module:get_option_string("usher_component"), require "util.id".medium(), 0; -- n counts what is told
local listener, wants_all; -- usher's connection once it has asked to be told; whether it asked for all
local giving, has_main = nothing, nil; -- what is given in this moment; whether rooms here have main rooms
local weak = { __mode = "k" }; local told = setmetatable({}, weak); -- what usher knows of a room; false if the room has ended
-- Only stanzas of this very connection are obeyed. Nobody else has it, whatever their stanzas say.
local function connection() return (((prosody.hosts[usher] or nothing).modules or nothing).component or nothing).session or nil; end
local function listens() return listener and listener == connection(); end
local function element(name, attr, inside) -- by hand, because util.stanza takes five times as long
	local text, special = "<"..name, "[%c&<>'\"]"; -- a plugin may put control characters into a reason
	for k, v in pairs(attr) do text = text.." "..k.."='"..(v:find(special) and st.xml_escape((v:gsub("%c", ""))) or v).."'"; end
	return text..(inside and ">"..inside.."</"..name..">" or "/>");
end
local before = ("<message from='%s' to='%s'><told xmlns='%s' boot='%s' n='"):format(module.host, tostring(usher), xmlns, boot);
local function tell(name, attr, room, inside)
	if not listens() then return; end
	n, attr.room = n + 1, attr.room or room and room.jid; listener.send(before..n.."'>"..element(name, attr, inside).."</told></message>");
end
-- The settings that are told, and where Prosody's and Jitsi's code keeps them. Their values stay in known, to be compared.
local fields = { locked = "locked", member_invites = "allow_member_invites", members_only = "members_only", password = "password",
	persistent = "persistent", public_jids = "whois", lobby = "lobbyroom", breakouts = "breakout_rooms" };
local function settings(room, known)
	local attr, is_new = { main = known.main }, false;
	for name, field in pairs(fields) do
		local value = room._data[field]; if type(value) == "table" then value = next(value) and true; end -- the breakout rooms
		is_new, known[field] = is_new or known[field] ~= value, value;
		attr[name] = value and (name == "lobby" and value or value ~= "moderators" and "1") or nil; -- whois is a word
	end
	return attr, is_new;
end
local function tell_room(room)
	if not wants_all or not listens() or room._data.destroyed or jid.host(room.jid) ~= module.host then return; end
	local known, inside, rest, by = { roles = {}, jids = {} }, {}, {}, room.usher or nothing; -- rest: usher limits the size of a stanza
	local function add(now, later, a) if #inside < 100 then inside[#inside+1] = element(now, a); else rest[#rest+1] = { later, a }; end end
	for _, field in ipairs(has_main ~= false and room:get_form_layout(usher) or nothing) do -- the form takes long
		if field.name == "muc#roominfo_breakout_main_room" then has_main, known.main = true, field.value; end
	end
	for nick, o in room:each_occupant() do
		known.roles[nick], known.jids[nick] = o.role, o.jid;
		local affiliation = room:get_affiliation(o.bare_jid) or "none";
		add("occupant", "joined", { nick = nick:sub(#room.jid + 2), jid = o.jid, role = o.role, affiliation = affiliation });
	end
	for who, is in room:each_affiliation() do add("affiliation", "affiliation", { jid = who, affiliation = is, by = by[who] }); end
	local attr = settings(room, known); attr.jid, has_main = room.jid, has_main or false;
	tell("room", attr, nil, table.concat(inside));
	for _, part in ipairs(rest) do tell(part[1], part[2], room); end
	told[room], known.n = known, n;
end
-- A few rooms at a time, because Prosody does nothing else meanwhile. It ends when usher asks anew.
local function each(all, act, finish)
	local known = told;
	local function some()
		local till, unsent = os.clock() + 0.004, listens() and listener.conn.writebuffer or "";
		if #unsent > 2^16 or #(type(unsent) == "table" and unsent[1] or "") > 2^16 then return 0.008; end -- usher reads slowly
		while told == known and listens() do
			if all[1] then act(table.remove(all)); else return finish(); end
			if os.clock() > till then return 0.008; end
		end
	end
	if some() then module:add_timer(0.008, some); end
end
-- All changes of occupants come by here. So do updates of presence, which are many: for most, two looks into a table are enough.
local whys = { ["301"] = "banned", ["303"] = "renamed", ["307"] = "kicked", ["321"] = "affiliation", ["333"] = "error" };
module:hook("muc-broadcast-presence", function (event)
	local room, o, known, nick = event.room, event.occupant, told[event.room], event.occupant.nick;
	local role = not event.stanza.attr.type and o.role or nil; -- people who change their nick leave with it
	if not known or known.roles[nick] == role and (known.jids[nick] == o.jid or not role) then return; end
	local name = not known.roles[nick] and "joined" or not role and "left" or known.jids[nick] ~= o.jid and "joined" or "role";
	local attr = { nick = nick:sub(#room.jid + 2), jid = role and o.jid or known.jids[nick], role = role, by = jid.bare(event.actor),
		affiliation = role and (room:get_affiliation(o.bare_jid) or "none") or nil,
		breakouts = not role and next(room._data.breakout_rooms or nothing) and "1" or nil };
	known.roles[nick], known.jids[nick] = role, role and o.jid;
	for _, tag in ipairs(event.x.tags) do attr.why = attr.why or whys[tag.attr.code] or tag.name == "destroy" and "destroyed" or nil; end
	tell(name, attr, room);
end, 1000);
module:hook("muc-room-destroyed", function (event)
	if told[event.room] then tell("ended", { reason = event.reason }, event.room); end told[event.room] = false;
end, 1000);
local function look(event)
	local room, known = event.room, told[event.room];
	if known == nil then return tell_room(room); elseif not known then return; end
	local attr, is_new = settings(room, known); if is_new then tell("settings", attr, room); end
end
for name in ([[room-created room-restored occupant-joined config-submitted config-submitted/muc#roomconfig_membersonly
	config-submitted/muc#roomconfig_persistentroom config-submitted/muc#roomconfig_roomsecret config-submitted/muc#roomconfig_whois
	config-submitted/{http://prosody.im/protocol/muc}roomconfig_allowmemberinvites]]):gmatch("%S+") do
	module:hook("muc-"..name, look, -1000);
end
for name in ("create destroy"):gmatch("%S+") do module:hook_global(name.."-lobby-room", look, -1000); end
-- Jitsi's plugins read one set of features in a session, whatever the room (token/util.lib.lua). So a session that was admitted to rooms
-- with different ones may do nothing that takes a feature, nor change its name (mod_muc_displayname.lua). Without any, the role decides.
local function put_context(session, context)
	local last = session.usher or nothing; session.usher_rooms = session.usher_rooms or last.room and last.room ~= context.room; -- several
	session.usher_several = session.usher_several or session.usher_rooms and last.text ~= context.text;
	local features = session.usher_several and { ["name-readonly"] = true } or context.features;
	session.jitsi_meet_context_features, session.force_permissions_update = features, features and true or nil; -- nil allows everything
	session.usher, session.jitsi_meet_context_user, session.jitsi_meet_context_group = context, context.user, context.group;
end
local function again(event) if event.session.usher then put_context(event.session, event.session.usher); end end
module:hook_global("c2s-session-updated", again); module:hook("muc-set-affiliation", function (event) -- the first: resumed
	local room, who, affiliation, was, by = event.room, event.jid, event.affiliation, event.previous_affiliation, jid.bare(event.actor);
	room.usher, room.contexts = room.usher or {}, room.contexts or {};
	room.usher[who], room.contexts[who] = affiliation ~= "none" and by or nil, affiliation ~= "none" and room.contexts[who] or nil;
	for _, session in pairs((prosody.bare_sessions[who] or nothing).sessions or nothing) do
		-- mod_jitsi_permissions.lua gives a new owner the features of the owner who made it one, and takes all from somebody who was one.
		if session.usher_several or was == "owner" and affiliation ~= "owner" then again({ session = session }); end
	end
	local known, is_new = told[room], was ~= affiliation;
	if known and giving.room == room.jid and giving.jid == who then is_new = was ~= giving.was or known.n > giving.n; end -- usher knows
	if known and is_new then tell("affiliation", { jid = who, affiliation = affiliation, by = by }, room); known.n = n; end
end, 1000);
local is_admin = module.could and function (who) return module:could(":enter-open-rooms", who); end -- Prosody 13
	or function (who) return require "core.usermanager".is_admin(who, module.host); end
if module.could then module:default_permission("prosody:admin", ":enter-open-rooms"); end
-- This is room:set_affiliation (muc.lib.lua), but that people inside hear nothing about somebody who is outside. Where plugins see an
-- affiliation that the room does not have (admins of the service, breakout rooms), and for people inside, it is that itself.
local lists = { owner = "owner", admin = "admin", member = "member", outcast = "outcast", none = false };
local function set_affiliation(room, actor, who, affiliation, seen)
	local is, was, data, on = room._affiliations[who], room._affiliation_data[who], module.could and {} or nil, lists[affiliation]; -- data: 13
	local quiet = on ~= nil and seen == is and not (is == "owner" and is_admin(who)); -- an admin may be on the list as well
	for _, o in pairs(room._occupants) do quiet = quiet and o.bare_jid ~= who; end
	if not quiet or room:get_affiliation(actor) ~= "owner" then return room:set_affiliation(actor, who, affiliation, nil, data); end
	if jid.node(who) == jid.node(actor) then return nil, nil, "not-allowed"; end -- as mod_muc_meeting_id.lua has it
	local change = { room = room, actor = actor, jid = who, affiliation = affiliation, previous_affiliation = is or "none",
		data = data, previous_data = was };
	module:fire_event("muc-pre-set-affiliation", change);
	if change.allowed == false then return nil, nil, (change.error or { condition = "not-allowed" }).condition; end
	data = on and (change.data or was); room._affiliations[who], room._affiliation_data[who] = on or nil, data and next(data) and data or nil;
	if room._data.persistent or not room.not_stored then room:save(true); end -- a room that is not persistent is deleted in the store by it
	room.not_stored, change.in_room = not room._data.persistent, false; module:fire_event("muc-set-affiliation", change); return true;
end
local function give(event, a, text)
	local who, session = prosody.bare_sessions[a.jid] and a.jid or jid.prep(a.jid), prosody.full_sessions[a.session];
	local room = jid.host(a.room) == module.host and prosody.hosts[module.host].modules.muc.get_room_from_jid(a.room) or nil;
	local is, seen = room and room._affiliations[who], room and who and room:get_affiliation(who);
	local condition = (not who or who:find("/", 1, true)) and "jid-malformed" or nil;
	if who and a.session then -- which may have gone; the affiliation lets in others of the account
		local context, last = text == "" and {} or json.decode(text), session and session.usher or nothing;
		if type(context) ~= "table" or context == json.null then context, condition = { features = {} }, "bad-request"; end -- allows nothing
		context.room, context.text = a.room, text;
		if session and (last.room ~= a.room or last.text ~= text) then put_context(session, context); end -- otherwise perhaps an owner's by now
		if room then room.contexts = room.contexts or {}; room.contexts[who] = context; end
	end
	condition = condition or a.affiliation and (not room and "item-not-found" or (is == "outcast" or seen == "outcast") and "outcast") or nil;
	if not condition and a.affiliation then
		giving = { room = room.jid, jid = who, was = a.was, n = tonumber(a.n) or math.huge };
		local whole, done, _, why = pcall(set_affiliation, room, event.stanza.attr.from, who, a.affiliation, seen);
		giving, condition = nothing, not (whole and done) and (why or "undefined-condition") or nil;
		if not whole then module:log("error", "could not give %s an affiliation in %s: %s", who, room.jid, done); end
	end
	if condition then tell("refused", { room = a.room, jid = a.jid, affiliation = a.affiliation, condition = condition, is = is }); end
end
local function listen(event, a)
	local all, muc = {}, prosody.hosts[module.host].modules.muc;
	listener, wants_all, has_main, told = event.origin, a.tell == "all", nil, setmetatable({}, weak);
	event.origin.send(st.reply(event.stanza):tag("listening", { xmlns = xmlns, version = "1", boot = boot, n = tostring(n) }));
	if not wants_all then return; end
	for room_jid in pairs(module:open_store("persistent"):get() or nothing) do all[#all+1] = room_jid; end -- these are restored
	for room in muc.live_rooms() do all[#all+1] = room.jid; end
	each(all, function (room_jid)
		local room = muc.get_room_from_jid(room_jid);
		if room and told[room] == nil then tell_room(room); end
	end, function () tell("complete", {}); end);
end
local function alive(event, a)
	if not listens() or a.boot ~= boot then return event.origin.send(st.error_reply(event.stanza, "cancel", "item-not-found")); end
	local all = {}; for room in pairs(told) do all[#all+1] = { room = room }; end
	each(all, look, function () -- plugins switch members-only and the lobby without an event
		event.origin.send(st.reply(event.stanza):tag("alive", { xmlns = xmlns, boot = boot, n = tostring(n) }));
	end);
end
for name, act in pairs { give = give, listen = listen, alive = alive } do
	module:hook(name == "give" and "message/host" or "iq-get/host/"..xmlns..":"..name, function (event)
		local child = event.origin == connection() and event.stanza.attr.type ~= "error" and event.stanza:get_child(name, xmlns);
		if child then act(event, child.attr, child:get_text()); return true; end
	end);
end
listener, n = connection(), -1; tell("hello", { version = "1" }); listener, n = nil, 0; -- this is not counted
function module.unload() tell("bye", {}); end
-- The gate, after Jitsi's token_affiliation (-3.5), and before what decides by affiliation: its lobby (-4), members-only (-5), bans (-10).
local function passes(room, who) return room:get_members_only() or (room:get_affiliation(who) or "none") ~= "none"; end
module:hook("muc-occupant-pre-join", function (event)
	local room, who, own = event.room, event.stanza.attr.from, event.origin.usher;
	local context = (room.contexts or nothing)[jid.bare(who)]; -- of an account, also for its sessions that usher was not asked for
	if context and (not own or own.room ~= context.room) then put_context(event.origin, context); end
	if passes(room, who) then return; end -- in breakout rooms get_affiliation may say "none"
	if is_admin(who) then event.occupant.role = "participant"; return; end -- by affiliation it would be none
	event.origin.send(st.error_reply(event.stanza, "auth", "registration-required", nil, room.jid));
	return true;
end, -3.9);
local muc = prosody.hosts[module.host].modules.muc; -- people may have come while the module was not loaded
for _, room in ipairs(muc and require "util.iterators".to_array(muc.live_rooms()) or nothing) do
	for nick, o in room:each_occupant() do if not passes(room, o.jid) and not is_admin(o.jid) then room:set_role(true, nick, nil); end end
end
-- Without an affiliation there is no role: who loses it is removed (321), as in members-only rooms (modules/muc/members_only.lib.lua).
module:hook("muc-get-default-role", function (event) if (event.affiliation or "none") == "none" then return false; end end, 2);

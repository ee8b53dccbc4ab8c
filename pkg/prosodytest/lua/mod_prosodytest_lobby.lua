-- Stands in for Jitsi's muc_lobby_rooms. It is loaded in the same way: on the main virtual host, with the options main_muc,
-- lobby_muc, muc_lobby_whitelist and muc_lobby_check_display_name_required. On the wire it lacks the notifications
-- (lobby-notify), and several items in one muc#admin set.
--
-- Jitsi's module has no option that accepts clients without a display name: muc_lobby_check_display_name_required only makes
-- the client ask for one. But it reads room._data.lobby_skip_display_name_check, which modules set that create a lobby
-- (muc_wait_for_host). The option prosodytest_lobby_skip_display_name_check stands in for a module that sets it in all rooms.

local filters = require "util.filters";
local jid = require "util.jid";
local st = require "util.stanza";

local rooms = module:require("prosodytest_rooms");
local xmlns_muc, xmlns_jitmeet = "http://jabber.org/protocol/muc", "http://jitsi.org/jitmeet";

local main_muc = assert(module:get_option_string("main_muc"));
local lobby_muc = assert(module:get_option_string("lobby_muc"));
local whitelist = module:get_option_set("muc_lobby_whitelist", {});
local ask_for_name = module:get_option_boolean("muc_lobby_check_display_name_required", true);
local skip_check = module:get_option_boolean("prosodytest_lobby_skip_display_name_check", false);

module:add_identity("component", "lobbyrooms", lobby_muc);

local main, lobby; -- the two MUC modules

local function lobby_of(room)
	return lobby.get_room_from_jid(jid.join(jid.node(room.jid), lobby_muc));
end

local function main_of(lobby_room)
	return main.get_room_from_jid(jid.join(jid.node(lobby_room.jid), main_muc));
end

local function record(room, is_on)
	room.jitsiMetadata = room.jitsiMetadata or {};
	room.jitsiMetadata.lobbyEnabled = is_on;
	module:context(main_muc):fire_event("room-metadata-changed", { room = room });
end

local function close(room, alternative)
	local lobby_room = lobby_of(room);
	if lobby_room then
		lobby_room:set_persistent(false);
		lobby_room:destroy(alternative, "Lobby room closed.");
		record(room, false);
	end
	room._data.lobbyroom, room._data.lobby_skip_display_name_check = nil, nil;
end

-- The submitted form decides alone: a form without the field members-only also closes the lobby.
local function submitted(event)
	local room = event.room;
	if jid.node(event.actor) == "focus" then
		return;
	end
	if not event.fields["muc#roomconfig_membersonly"] then
		close(room, rooms.external(room.jid));
	elseif not lobby_of(room) then
		lobby.create_room(jid.join(jid.node(room.jid), lobby_muc)):set_persistent(true);
		room._data.lobbyroom = jid.join(jid.node(room.jid), lobby_muc);
		event.status_codes["104"] = true;
		record(room, true);
	end
end

local function refuse(event, error_type, condition, code, children)
	local reply = st.error_reply(event.stanza, error_type, condition);
	reply.tags[1].attr.code = code;
	for _, child in ipairs(children) do
		reply:add_child(child); -- into the error
	end
	reply:reset():tag("x", { xmlns = xmlns_muc });
	event.origin.send(reply);
	return true;
end

local function gate(event)
	local room, stanza = event.room, event.stanza;
	local x = stanza:get_child("x", xmlns_muc);
	if not x or not room:get_members_only() or jid.resource(event.occupant.nick) == "focus"
	or jid.node(room.jid):find("__jicofo-health-check", 1, true) == 1 then
		return;
	end
	local from, host = jid.bare(stanza.attr.from), jid.host(stanza.attr.from);
	local affiliation = room:get_affiliation(from) or "none";
	local password = room:get_password();
	if whitelist:contains(from) or whitelist:contains(host)
	or password and x:get_child_text("password") == password then
		if affiliation == "none" then
			room:set_affiliation(true, from, "member");
			event.occupant.role = room:get_default_role("member");
		end
		return;
	end
	if password and affiliation == "member" and not x:get_child("password") then
		x:text_tag("password", password);
	end
	if not room._data.lobby_skip_display_name_check and (stanza:get_child_text("nick", "http://jabber.org/protocol/nick") or "") == "" then
		return refuse(event, "modify", "not-acceptable", "406", {
			st.stanza("displayname-required", { xmlns = xmlns_jitmeet, lobby = "true" });
		});
	end
	if affiliation == "none" then
		local lobby_room = lobby_of(room);
		local lobby_jid = lobby_room and lobby_room.jid or "";
		return refuse(event, "auth", "registration-required", "407", {
			st.stanza("lobbyroom", { xmlns = xmlns_jitmeet }):text(lobby_jid);
			st.stanza("lobbyroom"):text(lobby_jid); -- for old clients
		});
	end
end

-- Handles several invitations in one message.
local function invite(event)
	local stanza = event.stanza;
	local room = main.get_room_from_jid(jid.bare(stanza.attr.to));
	local x = stanza:get_child("x", xmlns_muc.."#user");
	if not room or not x or (stanza.attr.type or "normal") ~= "normal" then
		return;
	end
	local handled;
	for payload in x:childtags("invite") do
		if payload.attr.to then
			local one = st.stanza("message", stanza.attr):tag("x", { xmlns = xmlns_muc.."#user" }):add_child(payload):reset();
			handled = room:handle_mediated_invite(event.origin, one) or handled;
		end
	end
	return handled;
end

-- Reports whether a stanza from a lobby may reach a client. Only owners see a knocking guest, and the guest sees no owner. Of
-- the answers to IQs only those to disco#info pass, and no errors. Components get everything, and so does the test's observer.
local function passes(lobby_room, stanza)
	if stanza.name == "iq" then
		return stanza:get_child("query", "http://jabber.org/protocol/disco#info") or jid.node(stanza.attr.to) == "observer";
	end
	local x = stanza:get_child("x", xmlns_muc.."#user");
	if stanza.name == "presence" and (not lobby_room or not x or stanza.attr.type == "unavailable"
	or x:get_child_with_attr("status", nil, "code", "110")) then
		return true;
	end
	local occupant = lobby_room and lobby_room:get_occupant_by_nick(stanza.attr.from);
	local to_owner = lobby_room and lobby_room:get_affiliation(stanza.attr.to) == "owner";
	if not occupant then
		return stanza.name == "presence" and to_owner;
	end
	local from_owner = lobby_room:get_affiliation(occupant.bare_jid) == "owner";
	if stanza.name == "presence" then
		return to_owner and not from_owner;
	end
	return to_owner or from_owner;
end

local function tell(stanza)
	local room_jid = stanza.attr and stanza.attr.from and jid.bare(stanza.attr.from);
	if not lobby or not room_jid or jid.host(room_jid) ~= lobby_muc or passes(lobby.get_room_from_jid(room_jid), stanza) then
		return stanza;
	end
end

filters.add_filter_hook(function (session)
	filters.add_filter(session, "stanzas/out", tell, -1); -- after the domain mapper
end);

module:hook_global("server-started", function ()
	main, lobby = prosody.hosts[main_muc].modules.muc, prosody.hosts[lobby_muc].modules.muc;

	local at_main = module:context(main_muc);
	at_main:hook("muc-config-submitted", submitted);
	at_main:hook("muc-occupant-pre-join", gate, -4); -- before Prosody's own members-only
	if skip_check then
		at_main:hook("muc-occupant-pre-join", function (event)
			event.room._data.lobby_skip_display_name_check = true;
		end, -3);
	end
	module:context(lobby_muc):hook("host-disco-info-node", function (event)
		local node = event.node == "lobbyrooms" and event.origin.jitsi_web_query_room;
		if node and event.origin.jitsi_web_query_prefix ~= "" then
			node = "["..event.origin.jitsi_web_query_prefix.."]"..node;
		end
		local room = node and main.get_room_from_jid(jid.join(node, main_muc));
		if ask_for_name and room and lobby_of(room) then
			event.reply:tag("feature", { var = "http://jitsi.org/protocol/lobbyrooms#displayname_required" }):up();
		end
		event.exists = true;
	end);
	at_main:hook("message/bare", invite, 1);
	at_main:hook("muc-room-destroyed", function (event) close(event.room); end, 1);
	at_main:hook("muc-disco#info", function (event)
		local lobby_room = lobby_of(event.room);
		if lobby_room and event.room:get_members_only() then
			table.insert(event.form, { name = "muc#roominfo_lobbyroom"; label = "Lobby room" });
			event.formdata["muc#roominfo_lobbyroom"] = lobby_room.jid;
		end
	end);

	function lobby.room_mt.get_affiliation(lobby_room, who)
		local room = main_of(lobby_room);
		return room and room:get_affiliation(who) or "none";
	end
end, 1); -- before mod_prosodytest reports that Prosody is ready

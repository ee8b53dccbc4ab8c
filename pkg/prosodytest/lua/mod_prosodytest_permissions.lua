-- Stands in for Jitsi's jitsi_permissions; loaded on the main MUC service. An occupant without features from a token that becomes
-- a moderator gets all permissions of moderators, listed in its own presence. With features from a token the presence lists
-- nothing: the client reads its token. A moderator that makes an occupant owner passes on its own features.

local filters = require "util.filters";
local jid = require "util.jid";

local muc = module:depends("muc");
local rooms = module:require("prosodytest_rooms");
local all = module:get_option("jitsi_default_permissions", {
	livestreaming = true, recording = true, transcription = true, ["outbound-call"] = true, ["create-polls"] = true,
	["send-groupchat"] = true, flip = true, ["live-translation"] = true, ["live-translation-subscribe"] = true,
});

local function session_of(room, bare)
	for _, occupant in room:each_occupant() do
		if occupant.bare_jid == bare then
			return prosody.full_sessions[occupant.jid];
		end
	end
end

module:hook("muc-pre-set-affiliation", function (event)
	local room, who = event.room, event.jid;
	room.prosodytest_permissions = room.prosodytest_permissions or {};
	room.prosodytest_permissions[who] = true;
	local actor = type(event.actor) == "string" and prosody.full_sessions[event.actor];
	local session = session_of(room, who);
	if not session or not actor or not actor.jitsi_meet_context_features or rooms.is_admin(who) then
		return;
	end
	local was = event.previous_affiliation;
	if event.affiliation == "owner" and (was == "none" or was == "member") then
		session.jitsi_meet_context_features = actor.jitsi_meet_context_features;
		session.prosodytest_permissions = true;
	elseif was == "owner" and not session.auth_token then
		session.jitsi_meet_context_features = nil;
	end
end);

local function tell(stanza, session)
	local item = rooms.own_presence(stanza);
	local room = item and muc.get_room_from_jid(rooms.internal(jid.bare(stanza.attr.from)));
	local to = jid.bare(stanza.attr.to);
	if not room or jid.resource(stanza.attr.from) == "focus" or rooms.is_health_check(room) or rooms.is_admin(to) then
		return stanza;
	end
	local marked = room.prosodytest_permissions or {};
	if not session.prosodytest_permissions then
		if session.auth_token and session.jitsi_meet_context_features then
			marked[to] = nil;
			return stanza;
		elseif item.attr.role ~= "moderator" or not marked[to] then
			return stanza;
		end
	end
	session.prosodytest_permissions, marked[to] = nil, nil;
	session.jitsi_meet_context_features = session.jitsi_meet_context_features or all;
	stanza:tag("permissions", { xmlns = "http://jitsi.org/jitmeet" });
	for name, value in pairs(session.jitsi_meet_context_features) do
		stanza:tag("p", { name = name, val = tostring(value) }):up();
	end
	return stanza:up();
end

filters.add_filter_hook(function (session)
	filters.add_filter(session, "stanzas/out", tell, -2); -- after the domain mapper
end);

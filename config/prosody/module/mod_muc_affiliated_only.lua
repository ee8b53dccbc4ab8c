-- mod_muc_affiliated_only, which comes with usher: "usher config prosody --module DIR" writes this file, and overwrites it.
--
-- Loaded on a MUC service, it keeps people without an affiliation out of a room that is open, as members-only (XEP-0045 §5.2)
-- would, but leaves that switch to the people inside and to Jitsi's lobby. In a room that is members-only it does nothing.
-- It decides nothing and knows no tokens: usher, or an owner in the room, gives the affiliations. It is for Prosody 0.12 and 13.
local st = require "util.stanza";

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

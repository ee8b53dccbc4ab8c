-- Runs Lua inside of a test's Prosody, on a MUC service, and returns what it returns, as JSON. It also writes down which events of
-- affiliations happen on the service.
local json, st = require "util.json", require "util.stanza";

local events = {};
for _, name in ipairs { "muc-pre-set-affiliation", "muc-set-affiliation" } do
	module:hook(name, function (event)
		local data = event.data or {};
		events[#events+1] = ("%s %s %s->%s by %s, %s, %s, in %s"):format(name, event.jid, event.previous_affiliation, event.affiliation,
			tostring(event.actor), tostring(event.reason), tostring(data.reason), tostring(event.in_room));
	end, 10000);
end

local env = setmetatable({ module = module, prosody = prosody }, { __index = _G });

function env.events()
	local all = table.concat(events, "\n");
	events = {};
	return all;
end

function env.room(room_jid)
	return prosody.hosts[module.host].modules.muc.get_room_from_jid(room_jid);
end

-- All rooms as they are, with occupants and affiliations.
function env.rooms()
	local all = {};
	for room in prosody.hosts[module.host].modules.muc.live_rooms() do
		local people, affiliations = {}, {};
		for nick, o in room:each_occupant() do
			people[nick] = ("%s %s %s"):format(o.jid, o.role, room:get_affiliation(o.bare_jid) or "none");
		end
		for who, affiliation in room:each_affiliation() do affiliations[who] = affiliation; end
		all[room.jid] = { people = people, affiliations = affiliations, locked = room._data.locked and true, data = room._affiliation_data };
	end
	return all;
end

module:hook("iq-set/host/urn:usher:test:run", function (event)
	local code, err = load(event.stanza.tags[1]:get_text(), "=test", "t", env);
	local ok, result = false, err;
	if code then ok, result = pcall(code); end
	if ok then
		event.origin.send(st.reply(event.stanza):tag("run", { xmlns = "urn:usher:test" }):text(json.encode({ result = result })));
	else
		event.origin.send(st.error_reply(event.stanza, "cancel", "undefined-condition", tostring(result)));
	end
	return true;
end);

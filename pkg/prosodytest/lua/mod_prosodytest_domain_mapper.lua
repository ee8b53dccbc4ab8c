-- Stands in for Jitsi's muc_domain_mapper; loaded on the main MUC service, with the options muc_mapper_domain_base,
-- muc_mapper_domain_prefix and muc_mapper_domain. It rewrites the stanzas of every session and host, no matter where it is
-- loaded.
--
-- Stanzas from clients to the outer address room@conference.acme.example.com go to the inner one,
-- [acme]room@conference.example.com. Stanzas from the inner address get the outer one as their from, for every receiver:
-- clients, Jicofo, other hosts of the server, components. Components cannot send to the outer address, and direct answers of
-- the MUC service to them (as to an IQ) come from the inner one. Payloads stay as they are, such as the room of a conference
-- request. Jitsi's module means to rewrite that room, too, but looks for an element without a namespace and finds none.

local filters = require "util.filters";

local rooms = module:require("prosodytest_rooms");

-- The tenant's service that a stanza was sent to, such as conference.acme.example.com, by the stanza's id. The first stanza that
-- comes back with this id, usually the answer, gets this service as its from.
local services = {};

local function to_internal(stanza)
	local attr = stanza.attr;
	local address, rewritten = rooms.internal(attr.to or "");
	if rewritten then
		if attr.id and not address:find("@", 1, true) then
			services[attr.id] = attr.to;
		end
		attr.to = address;
	end
end

local function from_external(stanza)
	local attr = stanza.attr;
	local service = attr.id and services[attr.id];
	if not attr.from then
		return;
	elseif service then
		services[attr.id], attr.from = nil, service;
	else
		attr.from = rooms.external(attr.from);
	end
end

filters.add_filter_hook(function (session)
	filters.add_filter(session, "stanzas/out", function (stanza)
		if session.type ~= "s2sout" and (stanza.name == "message" or stanza.name == "presence" or stanza.name == "iq") then
			to_internal(stanza);
			from_external(stanza);
		end
		return stanza;
	end);
end);

local function add_host(host)
	local at = module:context(host);
	for _, kind in ipairs({ "message", "presence", "iq" }) do
		for _, to in ipairs({ "host", "bare", "full" }) do
			at:hook(kind.."/"..to, function (event) from_external(event.stanza); end);
			at:hook("pre-"..kind.."/"..to, function (event) to_internal(event.stanza); end);
		end
	end
end

prosody.events.add_handler("host-activated", add_host);
for host in pairs(prosody.hosts) do
	add_host(host);
end

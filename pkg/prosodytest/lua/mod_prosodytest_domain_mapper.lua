-- Stands in for Jitsi's muc_domain_mapper; loaded on the main MUC service, with its options muc_mapper_domain_base,
-- muc_mapper_domain_prefix and muc_mapper_domain. Where it is loaded does not matter: it rewrites for every session and
-- host of the server.
--
-- What clients send to room@conference.acme.example.com goes to [acme]room@conference.example.com, and what that says comes
-- from the former, whoever it is for: clients, Jicofo, other hosts of the server, components. Components cannot send to the
-- former, and answers that the MUC service gives them straight away (as to an IQ) come from the latter. What is said in a
-- payload, such as the room of a conference request, is left alone: Jitsi's means to rewrite that one, too, but does not
-- find it, as it looks for an element without a namespace.

local filters = require "util.filters";

local rooms = module:require("prosodytest_rooms");

-- By the id of a stanza, the service of a tenant that it was sent to, as conference.acme.example.com. The answer, or what
-- else comes first with that id, is said to be from there.
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

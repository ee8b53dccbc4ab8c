-- Stands in for Jitsi's client_proxy (mod_client_proxy.lua), which docker-jitsi-meet loads as focus.DOMAIN: it passes the IQs of clients
-- on to Jicofo as DOMAIN/CLIENT'S FULL JID, and the answers back. Jicofo's presence says where it is. Of the rest of the original it has
-- nothing: it asks for no subscription (prosodytest_subscriptions makes it), and takes no messages.

local jid = require "util.jid";
local st = require "util.stanza";

local target = module:get_option_string("target_address"); -- Jicofo's bare JID
local resources = {}; -- of the Jicofos that are online

module:hook("presence/host", function (event)
	local from, type = event.stanza.attr.from, event.stanza.attr.type;
	if jid.bare(from) ~= target then
		return true;
	end
	local resource = jid.resource(from);
	for i = #resources, 1, -1 do
		if resources[i] == resource then
			table.remove(resources, i);
		end
	end
	if not type then
		resources[#resources+1] = resource;
	end
	return true;
end);

module:hook("iq/host", function (event)
	local attr = event.stanza.attr;
	local asks = attr.type == "get" or attr.type == "set";
	if jid.bare(attr.from) == target and not asks then
		local client = jid.prep(jid.resource(attr.to));
		if client then
			attr.from, attr.to = module.host, client;
			module:send(event.stanza);
		end
	elseif asks and #resources > 0 then
		attr.from, attr.to = module.host.."/"..attr.from, target.."/"..resources[math.random(#resources)];
		module:send(event.stanza);
	elseif asks then
		module:send(st.error_reply(event.stanza, "cancel", "service-unavailable"));
	end
	return true;
end);

-- Loaded on MUC services: rooms with a name that begins with "silent" answer nothing, as if the service hung.

local jid_split = require "util.jid".split;

local function silent(event)
	local node = jid_split(event.stanza.attr.to);
	if node and node:sub(1, 6) == "silent" then
		return true;
	end
end

for _, kind in ipairs { "iq/bare", "iq/full", "presence/bare", "presence/full", "message/bare", "message/full" } do
	module:hook(kind, silent, 10000);
end

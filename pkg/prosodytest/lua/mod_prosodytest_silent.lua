-- For MUC services: rooms whose names begin with "silent" exist for nobody and answer nothing, as those of a service that hangs.

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

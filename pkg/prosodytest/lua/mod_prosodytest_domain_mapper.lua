-- Stands in for Jitsi's muc_domain_mapper; loaded on a component. On all that comes to it, the rooms of tenants,
-- [tenant]room@conference.example.com, are written as the tenant's clients spell them: room@conference.tenant.example.com.

local function rewrite(event)
	local attr = event.stanza.attr;
	local tenant, room, prefix, base, nick = (attr.from or ""):match("^%[([^%]]+)%]([^@/]+)@([^./]+)%.([^/]+)(.*)$");
	if tenant then
		attr.from = room .. "@" .. prefix .. "." .. tenant .. "." .. base .. nick;
	end
end

for _, kind in ipairs({ "message", "presence", "iq" }) do
	for _, to in ipairs({ "host", "bare", "full" }) do
		module:hook(kind .. "/" .. to, rewrite);
	end
end

-- Functions about rooms that several stand-ins use.

local jid = require "util.jid";

local prefix = module:get_option_string("muc_mapper_domain_prefix", "conference");
local base = module:get_option_string("muc_mapper_domain_base", module.host);
local service = module:get_option_string("muc_mapper_domain", prefix.."."..base);

local function escaped(s)
	return (s:gsub("%p", "%%%0"));
end

local of_tenant = "^"..escaped(prefix).."%.([^.]+)%."..escaped(base);
local global_admins = module:context("*"):get_option_set("admins", {});
local admins = module:get_option_inherited_set("admins", {});

local lib = { service = service };

-- Returns the address that the MUC service uses: room@conference.acme.example.com becomes [acme]room@conference.example.com.
-- The second result says whether it was the spelling of clients. An address without a node only gets another host.
function lib.internal(address)
	local node, host, resource = jid.split(address);
	local tenant = host and host:match(of_tenant);
	if not tenant then
		return address, false;
	end
	return jid.join(node and "["..tenant.."]"..node, service, resource), true;
end

-- Returns the address in the spelling of clients.
function lib.external(address)
	local node, host, resource = jid.split(address);
	local tenant, room = (host == service and node or ""):match("^%[([^%]]+)%](.+)$");
	if not tenant then
		return address;
	end
	return jid.join(room, prefix.."."..tenant.."."..base, resource);
end

function lib.is_admin(address)
	local bare = jid.bare(address);
	return global_admins:contains(bare) or admins:contains(bare);
end

function lib.is_health_check(room)
	return jid.node(room.jid):sub(1, #"__jicofo-health-check") == "__jicofo-health-check";
end

-- Returns the item of an occupant's own presence, on its way to that occupant, or nil for any other stanza.
function lib.own_presence(stanza)
	local x = stanza.name == "presence" and stanza.attr.type == nil and stanza.attr.to
		and stanza:get_child("x", "http://jabber.org/protocol/muc#user");
	return x and x:get_child_with_attr("status", nil, "code", "110") and x:get_child("item") or nil;
end

return lib;

-- Tells the test when Prosody is ready, and ends Prosody when the test is gone.
-- File descriptor 3 takes one line, "ready <version>", "taken <port>" or "error <text>"; 0 is open as long as the test lives.

local function core(name) -- Prosody 13 has a prefix for its own modules
	local ok, lib = pcall(require, "prosody.core."..name);
	return ok and lib or require("core."..name);
end
local portmanager, usermanager = core("portmanager"), core("usermanager");
local split = require "util.jid".split;

local function taken()
	for name in pairs(portmanager.get_registered_services()) do
		for _, port in ipairs(module:get_option("prosodytest_ports")[name] or {}) do
			if #portmanager.get_active_services():search(name, nil, port) == 0 then
				return port;
			end
		end
	end
end

local function create_users()
	for jid, password in pairs(module:get_option("prosodytest_users")) do
		local user, host = split(jid);
		if not prosody.hosts[host] then
			return ("no host for the user %s"):format(jid);
		end
		local ok, err = usermanager.create_user(user, password, host);
		if not ok then
			return ("user %s: %s"):format(jid, err);
		end
	end
end

module:hook_global("server-started", function ()
	local ready = assert(io.open("/dev/fd/3", "w"));
	local port = taken();
	local err = not port and create_users();
	if port then
		ready:write("taken ", port, "\n");
	elseif err then
		ready:write("error ", err, "\n");
	else
		ready:write("ready ", prosody.version, "\n");
	end
	ready:close();
end);

local server = require "net.server";
server.watchfd(0, function ()
	os.exit(1);
end);

-- Tells the test when Prosody is ready, and shuts Prosody down in good order when the test asks for it or has ended. This
-- module writes one line to file descriptor 3: "ready <version>", "taken <port>" or "error <text>". The end of standard
-- input (0) asks for the shutdown. A signal would interrupt Lua anywhere, and Prosody 0.12 then loses data that it has not
-- yet written.

local function core(name) -- Prosody 13 has a prefix for its own modules
	local ok, lib = pcall(require, "prosody.core."..name);
	return ok and lib or require("core."..name);
end
local portmanager, rostermanager, usermanager = core("portmanager"), core("rostermanager"), core("usermanager");
local split = require "util.jid".split;

local function taken()
	for name in pairs(portmanager.get_registered_services()) do
		for _, port in ipairs(module:get_option("prosodytest_bound")[name] or {}) do
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

-- Does what "prosodyctl mod_roster_command subscribe" does if the subscriber is a component, which has no roster: in the
-- roster of the account, the subscriber has asked for a subscription and has been granted one.
local function subscribe()
	for account, subscribers in pairs(module:get_option("prosodytest_subscriptions") or {}) do
		local user, host = split(account);
		for _, subscriber in ipairs(subscribers) do
			rostermanager.set_contact_pending_in(user, host, subscriber);
			rostermanager.subscribed(user, host, subscriber);
		end
	end
end

module:hook_global("server-started", function ()
	local ready = assert(io.open("/dev/fd/3", "w"));
	local port = taken();
	local err = not port and create_users();
	if not port and not err then
		subscribe();
	end
	if port then
		ready:write("taken ", port, "\n");
	elseif err then
		ready:write("error ", err, "\n");
	else
		ready:write("ready ", prosody.version, "\n");
	end
	ready:close();
end);

local watch;
watch = require "net.server".watchfd(0, function ()
	watch:close();
	prosody.main_thread:run(function ()
		prosody.unlock_globals();
		prosody.shutdown("the test wants it");
		prosody.lock_globals();
	end);
end);

-- What Jitsi's providers of authentication have in common: SASL ANONYMOUS (RFC 4505) and nothing else, random user names,
-- and that a connection which names a session to resume (XEP-0198) gets the user name of that session. Prosody looks for
-- the session by user name, so without this nobody whose name is random can resume.

local sasl = require "util.sasl";
local uuid = require "util.uuid".generate;

-- The mechanism is the whole server's, as Jitsi's is: other than Prosody's it can refuse. It serves Prosody's own
-- provider "anonymous" as well.
sasl.registerMechanism("ANONYMOUS", { "anonymous" }, function (handler)
	local username = uuid();
	local allowed, condition, text = handler.profile.anonymous(handler, username, handler.realm);
	if not allowed then
		return "failure", condition, text;
	end
	handler.username = handler.username or username;
	return "success";
end);

local function resumed(session)
	if session.previd then
		for _, other in pairs(prosody.full_sessions) do
			if other.resumption_token == session.previd then
				return other;
			end
		end
	end
end

local function unsupported()
	return nil, "Password based auth not supported";
end

-- A provider. check gets the session and the one that it means to resume, if there is one. It returns true, or false, a
-- condition and a text.
return function (check)
	return {
		test_password = unsupported, set_password = unsupported;
		get_password = function () end, user_exists = function () end, create_user = function () end, delete_user = function () end;
		get_sasl_handler = function (session)
			return sasl.new(module.host, { anonymous = function (handler)
				local old = resumed(session);
				local allowed, condition, text = check(session, old);
				if allowed and old then
					handler.username = old.username;
				end
				return allowed, condition, text;
			end });
		end;
	};
end

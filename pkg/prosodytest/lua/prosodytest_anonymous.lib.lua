-- The common part of Jitsi's providers of authentication: only SASL ANONYMOUS (RFC 4505), and random user names. A connection
-- that names a session to resume (XEP-0198) gets the user name of that session. Prosody looks up the session by user name, so
-- otherwise nobody with a random name could resume.

local sasl = require "util.sasl";
local uuid = require "util.uuid".generate;

-- As in Jitsi's module, this replaces the mechanism for the whole server, Prosody's own provider "anonymous" included. Unlike
-- Prosody's, it can refuse.
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

-- Returns a provider. check gets the session, and the session to resume if there is one. It returns true, or false with a
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

-- Stands in for Jitsi's provider token, under its name. It verifies the connection's token in the same way, but only by
-- app_secret and HS256: without app_id and app_secret the server has no such provider. The claims go into the session, where
-- Jitsi's modules read them. The log says so of each that it verifies. Options: app_id, app_secret, allow_empty_token,
-- asap_accepted_issuers, asap_accepted_audiences, asap_require_room_claim.

local base64 = require "util.encodings".base64;
local hmac = require "util.hashes".hmac_sha256;
local json = require "util.json";

local app_id, secret = module:get_option_string("app_id"), module:get_option_string("app_secret");
if not app_id or not secret then
	module:log("error", "app_id and app_secret must be specified");
	return;
end
local allow_empty = module:get_option_boolean("allow_empty_token");
local issuers = module:get_option_set("asap_accepted_issuers", { app_id });
local audiences = module:get_option_set("asap_accepted_audiences", { "*" });
local require_room = module:get_option_boolean("asap_require_room_claim", true);

module:depends("prosodytest_session");

local function decode(part)
	local text = base64.decode((part:gsub("-", "+"):gsub("_", "/")..("="):rep(-#part % 4)));
	local object = text and json.decode(text);
	return type(object) == "table" and object or nil;
end

local function accepts(set, value)
	return set:contains("*") or set:contains(value);
end

-- Returns the claims, or nil and the reason of the refusal.
local function verify(token)
	module:log("info", "verifies a token");
	local signed, header, body, signature = token:match("^(([^.]+)%.([^.]+))%.([^.]+)$");
	header, body = header and decode(header), body and decode(body);
	if not header or not body then
		return nil, "Invalid token";
	elseif header.typ ~= "JWT" then
		return nil, "Invalid typ";
	elseif header.alg ~= "HS256" then
		return nil, "Invalid or incorrect alg";
	elseif (base64.encode(hmac(secret, signed)):gsub("+", "-"):gsub("/", "_"):gsub("=", "")) ~= signature then
		return nil, "Invalid signature";
	elseif body.exp and os.time() >= body.exp then
		return nil, "Not acceptable by exp";
	elseif body.nbf and os.time() < body.nbf then
		return nil, "Not acceptable by nbf";
	elseif not body.iss or not accepts(issuers, body.iss) then
		return nil, body.iss and "invalid 'iss' claim" or "'iss' claim is missing";
	elseif not body.aud or not accepts(audiences, body.aud) then
		return nil, body.aud and "invalid 'aud' claim" or "'aud' claim is missing";
	end
	return body;
end

-- The session fields that hold the claims.
local fields = {
	"jitsi_meet_room", "jitsi_meet_domain", "jitsi_meet_str_tenant", "jitsi_meet_context_user",
	"jitsi_meet_context_group", "jitsi_meet_context_features", "jitsi_meet_context_room",
};

local function refused(session, condition, text)
	session.auth_token = nil;
	return false, condition, text;
end

local function check(session)
	if not session.auth_token then
		if allow_empty then
			return true;
		end
		return refused(session, "not-allowed", "token required");
	end
	local claims, why = verify(session.auth_token);
	if not claims then
		return refused(session, "not-allowed", why);
	elseif require_room and not claims.room then
		return refused(session, "not-authorized", "room claim is missing");
	elseif not claims.sub then
		return refused(session, "not-authorized", "sub claim is missing");
	end
	session.jitsi_meet_room, session.jitsi_meet_domain = claims.room, claims.sub;
	local context = claims.context or {};
	session.jitsi_meet_str_tenant = context.tenant;
	for _, part in ipairs({ "user", "group", "features", "room" }) do
		session["jitsi_meet_context_"..part] = context[part];
	end
	return true;
end

module:provides("auth", module:require("prosodytest_anonymous")(check));

-- Prosody 13 fires this event when a session continues on another connection. Prosody 0.12 has no such event, and the session
-- stays as it was. A guest, of another virtual host, can so become a user with a token. As in Jitsi's module, the session then
-- takes the fields of the connection. A virtual host that verifies no token sets none, so the room and the features of the
-- guest's token are lost.
module:hook_global("c2s-session-updated", function (event)
	local session, from = event.session, event.from_session;
	if not from.auth_token then
		return;
	end
	if from.host ~= module.host then
		session.auth_token = from.auth_token;
		if not check(session) then
			session:close();
			return;
		end
	end
	session.auth_token = from.auth_token;
	for _, field in ipairs(fields) do
		session[field] = from[field];
	end
	session.prosodytest_main_room = from.prosodytest_main_room; -- of the stand-in for muc_breakout_rooms
end, 1);

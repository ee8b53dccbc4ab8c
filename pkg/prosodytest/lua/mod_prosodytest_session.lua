-- Stands in for Jitsi's jitsi_session. It copies the parameters in the URL of a WebSocket or BOSH connection to the session
-- fields that Jitsi's modules read, without verifying them. Connections over TCP have no URL.

module:set_global();

local formdecode = require "util.http".formdecode;

local function keep(event)
	local session, request = event.session, event.request;
	local header = request.headers["authorization"];
	local token = header and header:sub(8); -- after "Bearer "
	if request.url.query then
		local params = formdecode(request.url.query);
		token = params.token or token;
		session.previd = params.previd;
		session.jitsi_web_query_room = params.room;
		session.jitsi_web_query_prefix = params.prefix or "";
	end
	session.auth_token = token;
end

module:hook_global("websocket-session", keep, 1);
module:hook_global("bosh-session", keep, 1);

-- Stands in for Jitsi's provider jitsi-anonymous, under its name. It accepts every connection. A token counts only when a
-- session is resumed; then the provider token verifies it (mod_auth_token.lua).

module:depends("prosodytest_session");

module:provides("auth", module:require("prosodytest_anonymous")(function (session, resumed)
	if not resumed then
		session.auth_token = nil;
	end
	return true;
end));
